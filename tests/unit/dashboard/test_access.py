"""Who is let in: the first one with the address, then that browser."""

from itertools import count

from vde_vmnet.dashboard.access import Access


def locked() -> Access:
    numbers = count()
    return Access(8123, make_secret=lambda: f"secret-{next(numbers)}")


def test_the_address_is_good_once() -> None:
    access = locked()
    token = access.address().partition("token=")[2]
    assert access.address() == "http://127.0.0.1:8123/?token=secret-0"
    assert not access.redeem("")
    assert not access.redeem(f"{token}x")
    assert access.redeem(token)
    assert not access.redeem(token)
    assert not access.redeem("None")


def test_the_cookie_is_not_the_token() -> None:
    access = locked()
    assert access.knows_session(access.session)
    assert not access.knows_session("secret-0")
    assert not access.knows_session("")
    assert not access.knows_session("ü")


def test_secrets_are_long_and_differ() -> None:
    one, other = Access(1), Access(1)
    assert one.session != other.session
    assert len(one.session) >= 32
    assert one.address() != other.address()


def test_hosts_and_origins() -> None:
    access = locked()
    assert access.is_our_host("127.0.0.1:8123")
    assert access.is_our_host("localhost:8123")
    for host in ("127.0.0.1", "127.0.0.1:8124", "example.org:8123", ""):
        assert not access.is_our_host(host)
    assert access.is_our_origin("http://127.0.0.1:8123")
    for origin in ("https://127.0.0.1:8123", "http://example.org", "null", "", "127.0.0.1:8123"):
        assert not access.is_our_origin(origin)
