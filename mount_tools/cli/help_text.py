"""The examples and exit statuses of commands, for `--help` and the manual pages.

The keys are the words after `pyunion`.
"""

from __future__ import annotations

Term = tuple[str, str]  # a term and its meaning


EXAMPLES: dict[str, tuple[Term, ...]] = {
    "build": (
        ("pyunion build -t app:1 .", "from the Containerfile in the working directory"),
        (
            "pyunion build -t app:1 --secret id=key,src=key.pem .",
            "for RUN --mount=type=secret,id=key",
        ),
        ("tar -c . | pyunion build -t app:1 -", "the context is on stdin"),
    ),
    "check": (
        ("pyunion check --quick", "look at names, sizes and times only"),
        ("pyunion check --repair", "read everything, and repair what can be repaired"),
    ),
    "commit": (
        ("pyunion commit -m 'with tools' box debian:tools", "name the new image"),
        ("pyunion commit -c 'CMD [\"nginx\"]' box web:1", "set its command too"),
    ),
    "copy": (
        ("pyunion copy debian:12 registry.example/debian:12", "from registry to registry"),
        ("pyunion copy --all debian:12 oci:layout:12", "every platform, as an OCI layout"),
    ),
    "cp": (
        ("pyunion cp box:/etc/motd .", "from a container"),
        ("pyunion cp site/. box:/srv/www", "what is in a directory, into one of a container"),
        ("pyunion cp box:/var/log - | tar -t", "as a tar archive"),
    ),
    "create": (
        ("pyunion create --name box debian:12", "a container that you mount or start later"),
        ("pyunion create -v /src:/src:ro --name build debian:12 make", "with a bind mount"),
    ),
    "diff": (
        ("pyunion diff box", "what a container changed"),
        ("pyunion diff debian:12 debian:tools", "how two images differ"),
    ),
    "exec": (("pyunion exec -it box bash", "a shell in a running container"),),
    "export": (("pyunion export box | tar -t", "list all files of a container"),),
    "history": (("pyunion history --no-trunc debian:12", "each step in full"),),
    "images": (
        ("pyunion images -f dangling=true -q", "ids of images without a name"),
        ("pyunion images --format '{{.Repository}} {{.Size}}'", "columns of your choice"),
    ),
    "import": (
        ("pyunion import rootfs.tar debian:12", "from a tar archive"),
        ("mmdebstrap bookworm | pyunion import - debian:12", "from a pipe"),
        ("pyunion import -c 'CMD [\"bash\"]' /srv/rootfs debian:12", "from a directory"),
    ),
    "inspect": (
        ("pyunion inspect -f '{{.Config.Env}}' debian:12", "one field"),
        ("pyunion inspect -f '{{json .Config}}' debian:12", "a part as JSON"),
    ),
    "layers": (("pyunion layers debian:tools", "only those of one image"),),
    "load": (
        ("pyunion load -i debian.tar", "from a file"),
        ("ssh host docker save debian:12 | pyunion load", "from another machine"),
    ),
    "logs": (("pyunion logs -f --tail 10 box", "the last ten lines, and what comes"),),
    "mount": (("pyunion mount box /mnt", "until `pyunion umount box`"),),
    "offer": (("pyunion offer /var/lib/pyunion-images debian:12", "then podman run debian:12"),),
    "port": (("pyunion port box 8080", "the addresses of that port"),),
    "prune": (("pyunion prune --dry-run -a", "show what could be removed"),),
    "ps": (
        ("pyunion ps -a", "stopped ones too"),
        ("pyunion ps -aq -f status=exited", "ids of containers that have exited"),
    ),
    "restore": (
        ("pyunion restore --dry-run box /etc/apt", "what would be undone"),
        ("pyunion restore box /etc/apt /usr/bin/apt", "as they are in the image"),
    ),
    "rm": (("pyunion rm -f box", "also if it is running"),),
    "login": (
        ("pyunion login registry.example", "ask for the user and the password"),
        ("pyunion login -u ci --password-stdin registry.example", "the password is on stdin"),
    ),
    "pull": (
        ("pyunion pull debian:12", "from Docker Hub"),
        ("pyunion pull --platform linux/arm64 registry.example/base", "for another machine"),
        ("pyunion pull -a registry.example/base", "every tag of the repository"),
    ),
    "push": (
        ("pyunion push registry.example/base:1", "an image that has this tag"),
        ("pyunion push --compression zstd registry.example/base:1", "smaller, for new clients"),
    ),
    "rmi": (("pyunion rmi debian:12", "a name; with the last name the image too"),),
    "run": (
        ("pyunion run -it --name box debian:12 bash", "a shell in a new container"),
        ("pyunion run --rm debian:12 cat /etc/motd", "a container that is removed at its end"),
        ("pyunion run -d -v /srv/www:/var/www:ro web:1", "in the background"),
    ),
    "save": (
        ("pyunion save debian:12 | ssh host docker load", "to another machine"),
        ("pyunion save --format oci-dir -o layout debian:12", "as an OCI layout"),
    ),
    "search": (
        ("pyunion search --filter is-official=true debian", "in Docker Hub"),
        ("pyunion search registry.example/base", "in another registry"),
        ("pyunion search --list-tags registry.example/base", "the tags of a repository"),
    ),
    "start": (("pyunion start -a box", "and wait for it"),),
    "stop": (("pyunion stop -t 2 box", "kill it after 2 seconds"),),
    "tag": (("pyunion tag debian:12 registry.example/base:1", "a second name"),),
    "top": (("pyunion top box -o pid,rss,args", "columns of your choice"),),
    "volume create": (
        ("pyunion volume create --label of=web data", "for `pyunion run -v data:TARGET`"),
    ),
    "volume ls": (("pyunion volume ls -f dangling=true", "those that no container uses"),),
    "volume prune": (("pyunion volume prune --dry-run", "show what could be removed"),),
    "umount": (("pyunion umount box", "by name, or by its directory"),),
    "which": (("pyunion which /usr/bin/apt box", "the layer that has the file"),),
}

_WRONG_FLAG = ("125", "a flag is wrong")
_COMMON = (
    ("0", "done"),
    ("1", "failed, for the reason that the message gives"),
    _WRONG_FLAG,
)
_RUNS = (
    ("125", "a flag is wrong, or the container cannot be started"),
    ("126", "the command cannot be run"),
    ("127", "the command does not exist"),
    ("others", "the status of the command; 128 plus the signal's number if a signal ended it"),
)
_EXIT_STATUSES = {
    "run": _RUNS,
    "exec": (("1", "the container is not running"), *_RUNS),
    "start": (
        *_COMMON,
        ("others", "with -a or -i, the status of the command, as with `pyunion run`"),
    ),
    "check": (
        ("0", "nothing is damaged, or all damage was repaired"),
        ("1", "something is damaged, or the store cannot be read"),
        _WRONG_FLAG,
    ),
    "inspect": (
        ("0", "everything was found"),
        ("1", "something was not found, or the template does not fit"),
        ("64", "the template cannot be parsed"),
        _WRONG_FLAG,
    ),
}
ALWAYS = (("130", "interrupted"), ("141", "the reader of the output is gone"))


def examples_of(words: str) -> tuple[Term, ...]:
    """Return the examples of a command.

    `container run` has those of `run`.  A command that a group calls by another name has none.
    """
    if words in EXAMPLES:
        return EXAMPLES[words]
    group, _, name = words.partition(" ")
    return EXAMPLES.get(name, ()) if group and name not in ("rm", "prune", "inspect") else ()


def exit_statuses_of(words: str) -> tuple[Term, ...]:
    """Return the exit statuses of a command, except those that all commands have."""
    return _EXIT_STATUSES.get(words.rpartition(" ")[2], _COMMON)
