"""The examples and exit statuses of commands, for `--help` and the manual pages.

The keys are the words after `pyunion`.
"""

from __future__ import annotations

from unionfs.light_typing import NamedTuple


class Entry(NamedTuple):
    """A term and its meaning."""

    term: str
    meaning: str


EXAMPLES: dict[str, tuple[Entry, ...]] = {
    "check": (
        Entry("pyunion check --quick", "look at names, sizes and times only"),
        Entry("pyunion check --repair", "read everything, and repair what can be repaired"),
    ),
    "commit": (
        Entry("pyunion commit -m 'with tools' box debian:tools", "name the new image"),
        Entry("pyunion commit -c 'CMD [\"nginx\"]' box web:1", "set its command too"),
    ),
    "copy": (
        Entry("pyunion copy debian:12 registry.example/debian:12", "from registry to registry"),
        Entry("pyunion copy --all debian:12 oci:layout:12", "every platform, as an OCI layout"),
    ),
    "create": (
        Entry("pyunion create --name box debian:12", "a container that you mount or start later"),
        Entry("pyunion create -v /src:/src:ro --name build debian:12 make", "with a bind mount"),
    ),
    "diff": (
        Entry("pyunion diff box", "what a container changed"),
        Entry("pyunion diff debian:12 debian:tools", "how two images differ"),
    ),
    "exec": (Entry("pyunion exec -it box bash", "a shell in a running container"),),
    "export": (Entry("pyunion export box | tar -t", "list all files of a container"),),
    "history": (Entry("pyunion history --no-trunc debian:12", "each step in full"),),
    "images": (
        Entry("pyunion images -f dangling=true -q", "ids of images without a name"),
        Entry("pyunion images --format '{{.Repository}} {{.Size}}'", "columns of your choice"),
    ),
    "import": (
        Entry("pyunion import rootfs.tar debian:12", "from a tar archive"),
        Entry("mmdebstrap bookworm | pyunion import - debian:12", "from a pipe"),
        Entry("pyunion import -c 'CMD [\"bash\"]' /srv/rootfs debian:12", "from a directory"),
    ),
    "inspect": (
        Entry("pyunion inspect -f '{{.Config.Env}}' debian:12", "one field"),
        Entry("pyunion inspect -f '{{json .Config}}' debian:12", "a part as JSON"),
    ),
    "layers": (Entry("pyunion layers debian:tools", "only those of one image"),),
    "load": (
        Entry("pyunion load -i debian.tar", "from a file"),
        Entry("ssh host docker save debian:12 | pyunion load", "from another machine"),
    ),
    "mount": (Entry("pyunion mount box /mnt", "until `pyunion umount box`"),),
    "offer": (
        Entry("pyunion offer /var/lib/pyunion-images debian:12", "then podman run debian:12"),
    ),
    "prune": (Entry("pyunion prune --dry-run -a", "show what could be removed"),),
    "ps": (
        Entry("pyunion ps -a", "stopped ones too"),
        Entry("pyunion ps -aq -f status=exited", "ids of containers that have exited"),
    ),
    "rm": (Entry("pyunion rm -f box", "also if it is running"),),
    "login": (
        Entry("pyunion login registry.example", "ask for the user and the password"),
        Entry("pyunion login -u ci --password-stdin registry.example", "the password is on stdin"),
    ),
    "pull": (
        Entry("pyunion pull debian:12", "from Docker Hub"),
        Entry("pyunion pull --platform linux/arm64 registry.example/base", "for another machine"),
        Entry("pyunion pull -a registry.example/base", "every tag of the repository"),
    ),
    "push": (
        Entry("pyunion push registry.example/base:1", "an image that has this tag"),
        Entry(
            "pyunion push --compression zstd registry.example/base:1", "smaller, for new clients"
        ),
    ),
    "rmi": (Entry("pyunion rmi debian:12", "a name; with the last name the image too"),),
    "run": (
        Entry("pyunion run -it --name box debian:12 bash", "a shell in a new container"),
        Entry("pyunion run --rm debian:12 cat /etc/motd", "a container that is removed at its end"),
        Entry("pyunion run -d -v /srv/www:/var/www:ro web:1", "in the background"),
    ),
    "save": (
        Entry("pyunion save debian:12 | ssh host docker load", "to another machine"),
        Entry("pyunion save --format oci-dir -o layout debian:12", "as an OCI layout"),
    ),
    "search": (
        Entry("pyunion search --filter is-official=true debian", "in Docker Hub"),
        Entry("pyunion search registry.example/base", "in another registry"),
        Entry("pyunion search --list-tags registry.example/base", "the tags of a repository"),
    ),
    "start": (Entry("pyunion start -a box", "and wait for it"),),
    "stop": (Entry("pyunion stop -t 2 box", "kill it after 2 seconds"),),
    "tag": (Entry("pyunion tag debian:12 registry.example/base:1", "a second name"),),
    "top": (Entry("pyunion top box -o pid,rss,args", "columns of your choice"),),
    "volume create": (
        Entry("pyunion volume create --label of=web data", "for `pyunion run -v data:TARGET`"),
    ),
    "volume ls": (Entry("pyunion volume ls -f dangling=true", "those that no container uses"),),
    "volume prune": (Entry("pyunion volume prune --dry-run", "show what could be removed"),),
    "umount": (Entry("pyunion umount box", "by name, or by its directory"),),
    "which": (Entry("pyunion which /usr/bin/tree box", "the layer that has the file"),),
}

_WRONG_FLAG = Entry("125", "a flag is wrong")
_COMMON = (
    Entry("0", "done"),
    Entry("1", "failed, for the reason that the message gives"),
    _WRONG_FLAG,
)
_RUNS = (
    Entry("125", "a flag is wrong, or the container cannot be started"),
    Entry("126", "the command cannot be run"),
    Entry("127", "the command does not exist"),
    Entry("others", "the status of the command; 128 plus the signal's number if a signal ended it"),
)
_EXIT_STATUSES = {
    "run": _RUNS,
    "exec": (Entry("1", "the container is not running"), *_RUNS),
    "start": (
        *_COMMON,
        Entry("others", "with -a or -i, the status of the command, as with `pyunion run`"),
    ),
    "check": (
        Entry("0", "nothing is damaged, or all damage was repaired"),
        Entry("1", "something is damaged, or the store cannot be read"),
        _WRONG_FLAG,
    ),
    "inspect": (
        Entry("0", "everything was found"),
        Entry("1", "something was not found, or the template does not fit"),
        Entry("64", "the template cannot be parsed"),
        _WRONG_FLAG,
    ),
}
ALWAYS = (Entry("130", "interrupted"), Entry("141", "the reader of the output is gone"))


def examples_of(words: str) -> tuple[Entry, ...]:
    """Return the examples of a command.

    `container run` has those of `run`.  A command that a group calls by another name has none.
    """
    if words in EXAMPLES:
        return EXAMPLES[words]
    group, _, name = words.partition(" ")
    return EXAMPLES.get(name, ()) if group and name not in ("rm", "prune", "inspect") else ()


def exit_statuses_of(words: str) -> tuple[Entry, ...]:
    """Return the exit statuses of a command, except those that all commands have."""
    return _EXIT_STATUSES.get(words.rpartition(" ")[2], _COMMON)
