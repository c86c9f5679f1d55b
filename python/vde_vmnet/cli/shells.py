"""Completion scripts for bash, zsh and fish, from what the commands take. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vde_vmnet.cli.grammar import Command, Operand

__all__ = ["SHELLS", "bash", "fish", "zsh"]

_ASK = "command vde_vmnet completion"


def _quoted(text: str) -> str:
    """For bash and zsh."""
    return "'" + text.replace("'", "'\\''") + "'"


# -- bash ----------------------------------------------------------------------------------------------

_BASH = """\
# bash completion for vde_vmnet, made by `vde_vmnet completion bash`.

_vde_vmnet_offer() { # KIND WORD [WORDS]
    case $1 in
        words) COMPREPLY=($(compgen -W "$3" -- "$2")) ;;
        file) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$2")) ;;
        directory) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -d -- "$2")) ;;
        network)
            COMPREPLY=($(compgen -W "$(%(ask)s --networks 2>/dev/null)" -- "$2") $(compgen -d -- "$2")) ;;
        port) COMPREPLY=($(compgen -W "$(%(ask)s --ports 2>/dev/null)" -- "$2")) ;;
        user) COMPREPLY=($(compgen -u -- "$2")) ;;
        group) COMPREPLY=($(compgen -g -- "$2")) ;;
        interface)
            COMPREPLY=($(compgen -W "$(ls /sys/class/net 2>/dev/null || ifconfig -l 2>/dev/null)" -- "$2")) ;;
    esac
}

_vde_vmnet() {
    local current=${COMP_WORDS[COMP_CWORD]} option='' verb='' options='' given='' at=0 i
    COMPREPLY=()
    # An equals sign is a word of its own.
    if [[ $current == = ]]; then
        option=${COMP_WORDS[COMP_CWORD-1]} current='' given=1
    elif [[ ${COMP_WORDS[COMP_CWORD-1]} == = ]]; then
        option=${COMP_WORDS[COMP_CWORD-2]} given=1
    elif [[ ${COMP_WORDS[COMP_CWORD-1]} == -* ]]; then
        option=${COMP_WORDS[COMP_CWORD-1]}
    fi
    local verbs=%(verbs)s
    if ((COMP_CWORD > 1)) && [[ " $verbs " == *" ${COMP_WORDS[1]} "* ]]; then verb=${COMP_WORDS[1]}; fi
    if [[ $verb == run ]]; then
        for ((i = 2; i < COMP_CWORD; i++)); do
            if [[ ${COMP_WORDS[i]} == -- ]]; then
                if declare -F _command_offset >/dev/null; then
                    _command_offset $((i + 1))
                elif ((i + 1 == COMP_CWORD)); then
                    COMPREPLY=($(compgen -c -- "$current"))
                else
                    _vde_vmnet_offer file "$current"
                fi
                return
            fi
        done
    fi
    case "$verb $option" in
%(values)s
    esac
    [[ -z $given ]] || return # a value that nothing is known about
    case $verb in
%(options)s
    esac
    if [[ $current == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$current"))
        [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
        return
    fi
    for ((i = 2; i < COMP_CWORD; i++)); do
        [[ ${COMP_WORDS[i]} == -* || ${COMP_WORDS[i]} == = || ${COMP_WORDS[i-1]} == = ]] || ((at++))
    done
    case "$verb $at" in
%(operands)s
    esac
    if [[ -z $verb ]]; then
        _vde_vmnet_offer network "$current"
        ((COMP_CWORD > 1)) || COMPREPLY+=($(compgen -W "$verbs" -- "$current"))
    fi
}

complete -F _vde_vmnet vde_vmnet
"""


def bash(commands: Sequence[Command]) -> str:
    """``commands``: the program itself first, with an empty name."""
    values, options, operands = [], [], []
    for command in commands:
        for option in command.options:
            if option.value is not None and option.value.kind:
                pattern = "|".join(f'"{command.name} {name}"' for name in option.names)
                values.append(f"        {pattern}) {_bash_offer(option.value)}; return ;;")
        words = " ".join(f"{one.long}{'=' if one.value else ''}" for one in command.options)
        options.append(f"        {_quoted(command.name)}) options={_quoted(words)} ;;")
        if not command.name:
            continue
        for at, operand in enumerate(command.operands):
            if operand.kind:
                operands.append(f'        "{command.name} {at}") {_bash_offer(operand)} ;;')
    verbs = _quoted(" ".join(command.name for command in commands if command.name))
    parts = {
        "ask": _ASK,
        "verbs": verbs,
        "values": "\n".join(values),
        "options": "\n".join(options),
        "operands": "\n".join(operands),
    }
    return _BASH % parts


def _bash_offer(value: Operand) -> str:
    words = f" {_quoted(' '.join(value.words))}" if value.words else ""
    return f'_vde_vmnet_offer {value.kind} "$current"{words}'


# -- zsh -----------------------------------------------------------------------------------------------

_ZSH = """\
#compdef vde_vmnet
# zsh completion for vde_vmnet, made by `vde_vmnet completion zsh`.

_vde_vmnet_networks() {
    local -a found
    found=(${(f)"$(%(ask)s --networks 2>/dev/null)"})
    (( $#found )) && compadd -a found
    _files -/
}

_vde_vmnet_ports() {
    local -a found
    found=(${(f)"$(%(ask)s --ports 2>/dev/null)"})
    (( $#found )) && compadd -a found
}

_vde_vmnet() {
    local -a verbs
    verbs=(
%(verbs)s
    )
    if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then
        _describe command verbs
        _vde_vmnet_networks
        return
    fi
    local verb=$words[2]
    if (( ${verbs[(I)$verb:*]} )); then
        shift words
        (( CURRENT-- ))
    else
        verb=''
    fi
    case $verb in
%(arguments)s
    esac
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _vde_vmnet "$@"
else
    compdef _vde_vmnet vde_vmnet
fi
"""
_ZSH_ACTIONS = {
    "file": "_files",
    "directory": "_files -/",
    "network": "_vde_vmnet_networks",
    "port": "_vde_vmnet_ports",
    "user": "_users",
    "group": "_groups",
    "interface": "_net_interfaces",
    "": " ",
}


def zsh(commands: Sequence[Command]) -> str:
    """See ``bash``."""
    verbs = [f"        {_quoted(f'{one.name}:{one.says}')}" for one in commands if one.name]
    arguments = []
    for command in commands:
        given = " \\\n                ".join(_quoted(spec) for spec in _zsh_specs(command))
        arguments.append(
            f"        {_quoted(command.name)})\n            _arguments -S \\\n                {given} ;;"
        )
    return _ZSH % {"ask": _ASK, "verbs": "\n".join(verbs), "arguments": "\n".join(arguments)}


def _zsh_specs(command: Command) -> Iterator[str]:
    for option in command.options:
        text = option.help.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
        if option.value is None:
            yield f"{option.long}[{text}]"
        else:
            yield f"*{option.long}=[{text}]:{_zsh_value(option.value)}"
    if command.name == "run":
        yield "*::command: _normal"
        return
    for operand in command.operands:
        yield f"{'*' if operand.repeated else ''}:{_zsh_value(operand)}"


def _zsh_value(value: Operand) -> str:
    name = value.metavar.replace(":", "\\:").replace("[", "").replace("]", "")
    return f"{name}:({' '.join(value.words)})" if value.words else f"{name}:{_ZSH_ACTIONS[value.kind]}"


# -- fish ----------------------------------------------------------------------------------------------

_FISH_ACTIONS = {
    "file": "-r -F",
    "directory": "-x -a '(__fish_complete_directories)'",
    "network": f"-x -a '({_ASK} --networks 2>/dev/null; __fish_complete_directories)'",
    "port": f"-x -a '({_ASK} --ports 2>/dev/null)'",
    "user": "-x -a '(__fish_complete_users)'",
    "group": "-x -a '(__fish_complete_groups)'",
    "interface": "-x -a '(__fish_print_interfaces)'",
    "": "-x",
}


def fish(commands: Sequence[Command]) -> str:
    """See ``bash``."""
    names = " ".join(command.name for command in commands if command.name)
    lines = [
        "# fish completion for vde_vmnet, made by `vde_vmnet completion fish`.",
        "complete -c vde_vmnet -f",
    ]
    for command in commands:
        if command.name:
            lines.append(
                f"complete -c vde_vmnet -n __fish_use_subcommand -a {command.name} -d {_fish(command.says)}"
            )
            seen = f"-n '__fish_seen_subcommand_from {command.name}'"
        else:
            seen = f"-n 'not __fish_seen_subcommand_from {names}'"
        for option in command.options:
            short = "".join(f" -s {name[1:]}" for name in option.names if not name.startswith("--"))
            action = "" if option.value is None else f" {_fish_action(option.value)}"
            lines.append(
                f"complete -c vde_vmnet {seen}{short} -l {option.long[2:]}{action} -d {_fish(option.help)}"
            )
        for kind in dict.fromkeys(operand.kind for operand in command.operands if operand.kind):
            operand = next(one for one in command.operands if one.kind == kind)
            # Where it stands is not told: fish has no positions.
            lines.append(
                f"complete -c vde_vmnet {seen} {_fish_action(operand).replace('-x ', '').replace('-r ', '')}"
            )
        if command.name == "run":
            lines.append(f"complete -c vde_vmnet {seen} -a '(__fish_complete_subcommand --fcs-skip=2)'")
    return "\n".join([*lines, ""])


def _fish(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _fish_action(value: Operand) -> str:
    return f"-x -a {_fish(' '.join(value.words))}" if value.words else _FISH_ACTIONS[value.kind]


#: By name.
SHELLS = {"bash": bash, "zsh": zsh, "fish": fish}
