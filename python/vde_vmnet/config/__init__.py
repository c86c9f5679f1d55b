"""What the user asks for: command line to checked, frozen values."""
