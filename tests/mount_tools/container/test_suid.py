"""Set-user-ID programs work inside a container, where only its own processes reach them."""

from __future__ import annotations

from tests.helpers.containers import Containers

SCRIPT = """
mkdir /suid && cp /bin/busybox /suid/su && chmod 4755 /suid/su
printf 'root::0:0:root:/:/bin/sh\\nbob::1000:1000:bob:/:/bin/sh\\n' >/etc/passwd
exec su bob -s /bin/sh -c 'id -u; exec /suid/su root -s /bin/sh -c "id -u"'
"""


def test_su_becomes_root(containers: Containers) -> None:
    assert containers.ok("run", "--rm", "busy:1", "sh", "-c", SCRIPT).split() == ["1000", "0"]
