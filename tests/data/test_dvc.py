"""`.dvc` files: what DVC 2 and 3 write is read, and nothing else does harm."""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import md5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spotune.contracts.errors import RequestRefused
from spotune.data import dvc
from spotune.data.assembly.refusals import DatasetChanged
from spotune.data.dvc import DvcObject, named_files, parse_dvc, parse_folder, verified

HASH = "a304afb96060aad90176268345e10355"

DVC_3 = b"""\
# tracked since March
outs:
- md5: a304afb96060aad90176268345e10355
  size: 37891850
  hash: md5
  path: train.jsonl
  desc: "support, all languages"
  meta:
    team: [a, b]
frozen: true
"""
DVC_2 = b"""\
md5: 0123456789abcdef0123456789abcdef
wdir: ..
outs:
- md5: 22222222222222222222222222222222.dir
  size: 12
  nfiles: 2
  path: data/set
- md5: "10355000000000000000000000000000"
  path: ./eval.jsonl
"""


def out(**fields: str) -> bytes:
    """A `.dvc` file of one entry."""
    return b"outs:\n- " + "\n  ".join(f"{name}: {value}" for name, value in fields.items()).encode()


def test_what_dvc_3_writes() -> None:
    (one,) = parse_dvc(DVC_3, "train.jsonl.dvc")
    assert one == DvcObject("train.jsonl", HASH, modern=True, size=37891850)
    assert one.key == "files/md5/a3/04afb96060aad90176268345e10355"


def test_what_dvc_2_writes() -> None:
    folder, file = parse_dvc(DVC_2, "x.dvc")
    assert (folder.path, folder.folder, folder.key) == ("data/set", True, "22/222222222222222222222222222222.dir")
    assert (file.path, file.md5, file.key) == ("eval.jsonl", "10355" + "0" * 27, "10/355" + "0" * 27)


@pytest.mark.parametrize(
    "path",
    ["../a", "a/../../b", "/etc/passwd", "..", ".", "a\\..\\b", "C:/a", "s3://bucket/key", '"a\\0b"', '""', "[a]"],
)
def test_a_path_never_leads_out_of_its_folder(path: str) -> None:
    with pytest.raises(RequestRefused) as refused:
        parse_dvc(out(md5=HASH, path=path), "x.dvc")
    assert refused.value.code == "dvc_file_refused"
    assert "x.dvc" in str(refused.value)
    listing = json.dumps([{"md5": HASH, "relpath": path.strip('"').replace("\\0", "\0")}]).encode()
    if path != "[a]":
        with pytest.raises(RequestRefused):
            parse_folder(listing, folder_of(listing), "x.dvc")


BOMB = b"a: &a [x, x]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\nouts: *c\n"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"outs",
        b"outs: []",
        b"outs: {}",
        b"- outs",
        b"outs:\n- x",
        b"outs:\n- path: a",
        BOMB,
        b"outs: &o\n- {md5: " + HASH.encode() + b", path: a}\ndeps: 1\n",
        b"? [a, b]\n: c\nouts: []\n",
        out(md5=HASH, path="a") + b"\n---\n" + out(md5=HASH, path="b"),
        out(md5=HASH, path="a") + b"\nouts: []\n",
        out(md5="!!python/object/apply:os.system [true]", path="a"),
        out(md5=HASH[:-1], path="a"),
        out(md5=HASH.upper(), path="a"),
        out(md5=HASH + "/../../secret", path="a"),
        out(md5=HASH, hash="sha256", path="a"),
        out(md5=HASH, cache="false", path="a"),
        out(md5=HASH, push="false", path="a"),
        out(md5=HASH, cloud="{s3: {version_id: x}}", path="a"),
        out(md5=HASH, size="-1", path="a"),
        out(md5=HASH, size="9" * 5000, path="a"),
        out(etag="x", path="a"),
        out(md5=HASH, path="a") + b"\n- {md5: " + HASH.encode() + b", path: ./a}",
        b"outs: " + b"[" * 40_000,
        b"outs: " + b"{a: " * 20_000,
        b"#" * (dvc.MAX_FILE_BYTES + 1),
        out(md5="!!binary aGk=", path="!!set {}"),
    ],
)
def test_what_is_no_dvc_file_is_refused_at_once(body: bytes) -> None:
    with pytest.raises(RequestRefused) as refused:
        parse_dvc(body, "x.dvc")
    assert refused.value.code == "dvc_file_refused"


def test_an_anchor_is_refused_before_it_means_anything() -> None:
    with pytest.raises(RequestRefused, match="anchor"):
        parse_dvc(BOMB, "x.dvc")


@given(st.binary(max_size=200) | st.text(alphabet="outs:-[]{}&*!?|>\n \"'#md5path", max_size=80).map(str.encode))
def test_no_bytes_break_the_reader(body: bytes) -> None:
    try:
        parse_dvc(body, "x.dvc")
    except RequestRefused:
        return


def folder_of(listing: bytes, *, modern: bool = True) -> DvcObject:
    return DvcObject("set", md5(listing).hexdigest(), modern, folder=True)


class TestFolders:
    def test_a_folder_s_files_lie_where_it_does(self) -> None:
        listing = json.dumps([{"md5": HASH, "relpath": "a/b.jsonl"}, {"md5": "b" * 32, "relpath": "c.jsonl"}]).encode()
        for modern, key in ((True, f"files/md5/a3/{HASH[2:]}"), (False, f"a3/{HASH[2:]}")):
            files = parse_folder(listing, folder_of(listing, modern=modern), "x.dvc")
            assert [one.path for one in files] == ["set/a/b.jsonl", "set/c.jsonl"]
            assert files[0].key == key

    def test_all_files_of_a_dvc_file_are_found_and_only_lists_are_read(self) -> None:
        listing = json.dumps([{"md5": HASH, "relpath": "b"}]).encode()
        asked = []

        def open_key(key: str) -> Iterable[bytes]:
            asked.append(key)
            return [listing[:5], listing[5:]]

        body = out(md5=f"{md5(listing).hexdigest()}.dir", hash="md5", path="set") + b"\n- {md5: " + b"c" * 32
        files = named_files(body + b", path: x}", "x.dvc", open_key)
        assert [(one.path, one.modern) for one in files] == [("set/b", True), ("x", False)]
        assert asked == [folder_of(listing).key]

    def test_a_list_that_is_not_the_named_one_is_refused(self) -> None:
        with pytest.raises(DatasetChanged, match="MD5"):
            parse_folder(b"[]", folder_of(b"[ ]"), "x.dvc")

    @pytest.mark.parametrize(
        "listing",
        [
            b"{}",
            b"[",
            b"[1]",
            b'[{"relpath": "a"}]',
            b'[{"md5": "x", "relpath": "a"}]',
            f'[{{"md5": "{HASH}.dir", "relpath": "a"}}]'.encode(),
            f'[{{"md5": "{HASH}", "relpath": "a"}}, {{"md5": "{HASH}", "relpath": "./a"}}]'.encode(),
            b"[" * 100_000,
        ],
    )
    def test_a_list_that_makes_no_sense_is_refused(self, listing: bytes) -> None:
        with pytest.raises(RequestRefused):
            parse_folder(listing, folder_of(listing), "x.dvc")

    def test_an_endless_list_is_not_read_to_its_end(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dvc, "MAX_FOLDER_BYTES", 10_000)

        def endless(key: str) -> Iterable[bytes]:
            while True:
                yield b"x" * 1000

        with pytest.raises(RequestRefused, match="more than"):
            named_files(out(md5=f"{HASH}.dir", path="set"), "x.dvc", endless)


def remote_uri(digest: str, *, modern: bool) -> str:
    return f"s3://b/dvc/{DvcObject('a', digest, modern).key}"


class TestVerified:
    @pytest.mark.parametrize("modern", [True, False])
    def test_the_named_bytes_pass(self, modern: bool) -> None:
        uri = remote_uri(md5(b"abc").hexdigest(), modern=modern)
        assert list(verified([b"ab", b"c"], uri)) == [b"ab", b"c"]

    @pytest.mark.parametrize("modern", [True, False])
    def test_others_are_found_out_at_their_end(self, modern: bool) -> None:
        uri = remote_uri(md5(b"abc").hexdigest(), modern=modern)
        with pytest.raises(DatasetChanged) as changed:
            list(verified([b"abd"], uri))
        assert changed.value.uri == uri

    def test_before_dvc_3_the_hash_is_of_unix_line_ends(self) -> None:
        text, unix = b"a\r\nb\r\n", b"a\nb\n"
        assert list(verified([b"a\r", b"\nb\r\n"], remote_uri(md5(unix).hexdigest(), modern=False)))
        with pytest.raises(DatasetChanged):
            list(verified([text], remote_uri(md5(unix).hexdigest(), modern=True)))

    def test_and_a_line_end_across_two_of_its_pieces_stayed(self) -> None:
        text = b"x" * (dvc.CONVERTED_BYTES - 1) + b"\r\n" + b"a\r\n"
        digest = md5(text[:-3] + b"a\n").hexdigest()
        assert list(verified([text[:500], text[500:]], remote_uri(digest, modern=False)))

    def test_what_is_no_object_of_a_remote_is_no_object_of_a_remote(self) -> None:
        with pytest.raises(ValueError, match="MD5"):
            list(verified([], "s3://b/train.jsonl"))
