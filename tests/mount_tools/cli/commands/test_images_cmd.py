"""`pyunion images`, line for line as docker 20.10."""

from __future__ import annotations

import pytest

from layerstore import Image
from mount_tools.cli.output.human import go_time
from tests.helpers.cli import Cli
from tests.helpers.images import add_image, some_digest

HEADING = "REPOSITORY   TAG       IMAGE ID   CREATED   SIZE\n"
AGE = "6 years ago"


@pytest.fixture(autouse=True)
def _a_day_of_2026(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time_ns", lambda: 1_795_562_135_000_000_000)


def test_an_empty_store_has_the_heading_alone(cli: Cli) -> None:
    assert cli.ok("images") == HEADING
    assert cli.ok("image", "ls") == HEADING
    assert cli.json("images") == []


def test_a_line_for_each_name_the_newest_first(cli: Cli, child: Image, base: Image) -> None:
    cli.ok("tag", "busy:1", "other")
    assert cli.ok("images") == (
        "REPOSITORY   TAG       IMAGE ID       CREATED       SIZE\n"
        f"changed      1         {child.id.short}   5 years ago   1.02kB\n"
        f"busy         1         {base.id.short}   6 years ago   1.01kB\n"
        f"other        latest    {base.id.short}   6 years ago   1.01kB\n"
    )
    assert cli.ok("images", "-q") == f"{child.id.short}\n" + f"{base.id.short}\n" * 2
    assert cli.ok("images", "-q", "--no-trunc", "busy") == f"{base.id}\n"


def test_digests_are_a_column_when_asked_for(cli: Cli, base: Image) -> None:
    digest = some_digest("manifest")
    with cli.store() as store:
        store.images.add_repo_digest(base, "docker.io/library/busy", digest)
        store.images.add_repo_digest(base, "host.example/other", digest)
    assert cli.ok("images", "--digests") == (
        f"REPOSITORY           TAG       {'DIGEST':74}IMAGE ID       CREATED       SIZE\n"
        f"busy                 1         {digest}   {base.id.short}   6 years ago   1.01kB\n"
        f"host.example/other   <none>    {digest}   {base.id.short}   6 years ago   1.01kB\n"
    )
    assert cli.ok("images", "--format", "{{.Repository}} {{.Tag}} {{.Digest}}") == (
        f"busy 1 {digest}\nhost.example/other <none> {digest}\n"
    )


def test_untagged_images_hide_once_another_came_of_them(
    cli: Cli, child: Image, base: Image
) -> None:
    with cli.store() as store:
        lone = add_image(store, {"x": b"y"}, created="2022-01-01T00:00:00Z")
        for image in (base, child):
            for reference in store.images.get(image.id).tags:
                store.images.untag(image.id, reference)
    line = "<none>       <none>    {}   {} years ago   {}\n"
    assert cli.ok("images").splitlines(keepends=True)[1:] == [
        line.format(lone.id.short, 4, "1B"),
        line.format(child.id.short, 5, "1.02kB"),
    ]
    assert len(cli.ok("images", "-a").splitlines()) == 4
    assert cli.ok("images", "-qf", "dangling=true") == f"{lone.id.short}\n{child.id.short}\n"
    assert cli.ok("images", "-qf", "dangling=false") == ""


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("busy",), "busy"),
        (("busy:1",), "busy"),
        (("b*y",), "busy"),
        (("busy:2",), ""),
        (("nothing",), ""),
        (("Nothing",), ""),
        (("-f", "reference=c*:?"), "changed"),
        (("-f", "before=changed:1"), "busy"),
        (("-f", "since=busy:1"), "changed"),
        (("-f", "label=of"), "busy"),
        (("-f", "label=of=base", "-f", "label=x"), "busy"),
        (("-f", "label=of=other"), ""),
        (("-f", "until=2020-06-01"), "busy"),
    ],
)
@pytest.mark.usefixtures("child")
def test_names_and_filters_select(cli: Cli, words: tuple[str, ...], shown: str) -> None:
    assert cli.ok("images", "--format", "{{.Repository}}", *words) == (
        f"{shown}\n" if shown else ""
    )


@pytest.mark.parametrize(
    ("words", "complaint", "status"),
    [
        (("-f", "bad=1"), "Error: Invalid filter 'bad'", 1),
        (("-f", "dangling=maybe"), "Error: Invalid filter 'dangling=[maybe]'", 1),
        (("-f", "before=nothing"), "Error: No such image: nothing:latest", 1),
        (("--format", "{{.ID"), "template parsing error: template: :1: unclosed action", 1),
        (
            ("--format", "{{.Nope}}"),
            'template parsing error: template: :1:2: executing "" at <.Nope>: '
            "can't evaluate field Nope in type *formatter.imageContext",
            1,
        ),
        (("--nope",), "unknown flag: --nope\nSee 'pyunion images --help'.", 125),
        (
            ("a", "b"),
            "\"pyunion images\" requires at most 1 argument.\nSee 'pyunion images --help'.\n\n"
            "Usage:  pyunion images [OPTIONS] [REPOSITORY[:TAG]]\n\nList images",
            1,
        ),
    ],
)
@pytest.mark.usefixtures("base")
def test_refusals(cli: Cli, words: tuple[str, ...], complaint: str, status: int) -> None:
    assert cli.fails("images", *words, status=status) == f"{complaint}\n"


def test_templates_see_what_dockers_see(cli: Cli, base: Image) -> None:
    template = "{{.ID}}|{{.CreatedSince}}|{{.CreatedAt}}|{{.Size}}|{{.VirtualSize}}|{{.Containers}}"
    assert cli.ok("images", "--format", template) == (
        f"{base.id.short}|{AGE}|{go_time(base.created_ns)}|1.01kB|1.006kB|N/A\n"
    )
    assert cli.ok("images", "--format", r"table {{.ID}}\t{{.Repository}}") == (
        f"IMAGE ID       REPOSITORY\n{base.id.short}   busy\n"
    )


def test_json_has_everything_uncut(cli: Cli, base: Image) -> None:
    assert cli.json("images") == [
        {
            "id": base.id,
            "tags": ["busy:1"],
            "digests": [],
            "parent": None,
            "created": "2020-02-03T04:05:06.5Z",
            "size": 1006,
            "architecture": "amd64",
            "os": "linux",
        }
    ]
