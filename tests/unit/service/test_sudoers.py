"""The sudoers text: Lima's layout to the byte."""

from vde_vmnet.service.sudoers import DEFAULT_NETWORKS, LimaNetwork, lima_sudoers


def test_the_layout_is_lima_s() -> None:
    assert lima_sudoers(
        "/p", group="g", var_run="/r", networks=(LimaNetwork("b", "bridged", interface="en0"),)
    ) == (
        "%g ALL=(root:wheel) NOPASSWD:NOSETENV: /bin/mkdir -m 775 -p /r\n"
        "\n"
        '# Manage "b" network daemons\n'
        "\n"
        "%g ALL=(root:wheel) NOPASSWD:NOSETENV: \\\n"
        "    /p --pidfile=/r/b_socket_vmnet.pid --socket-group=g --vmnet-mode=bridged --vmnet-interface=en0"
        " /r/socket_vmnet.b, \\\n"
        "    /usr/bin/pkill -F /r/b_socket_vmnet.pid\n"
    )


def test_networks_come_in_order_of_their_names() -> None:
    text = lima_sudoers("/p", networks=tuple(reversed(DEFAULT_NETWORKS)))
    assert text == lima_sudoers("/p")
    assert text.index('"bridged"') < text.index('"host"') < text.index('"shared"')
