"""ImageService: archives that lie about themselves, and how an import ends."""

import os
import shutil
import tarfile

import grpc
import pytest

from test_images import (as_layer, gone, images, layout, link, load_or_refuse, make_tar,  # noqa: F401
                         needs_tools, ok, refused, regular, rootfs, run, victim)

LAYOUT = regular("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
INDEX = regular("index.json", b'{"schemaVersion":2,"manifests":[]}')


# --- OCI archives ---


@needs_tools
@pytest.mark.parametrize("prefix", ["", "oci-archive:"])
def test_archives_whose_members_lead_out(images, tmp_path, victim, prefix):
    """skopeo by itself writes them: it is not what unpacks an archive."""
    up = "../" * 20 + str(victim).lstrip("/")
    hostile = [
        (link("door", victim), regular("door/new"), regular("door/file")),
        (link("door", up), regular("door/new"), regular("door/file")),
        (link("one", "."), link("one/two", victim), regular("two/new"), regular("two/file")),
        (link("hard", victim / "file", tarfile.LNKTYPE), regular("hard")),
        (regular(f"{up}/new"), regular(f"{up}/file")),
        (regular(f"{victim}/new"), regular(f"{victim}/file")),
    ]
    for members in hostile:
        archive = make_tar(tmp_path / "hostile.tar", LAYOUT, INDEX, *members)
        images.refuses("INVALID_ARGUMENT", "", "mine", f"{prefix}{archive}")
        assert os.listdir(victim) == ["file"] and (victim / "file").read_text() == "the host's"


@needs_tools
@pytest.mark.parametrize("member", [
    link("blobs/sha256/link", "/dev/zero"), ("blobs/fifo", tarfile.FIFOTYPE, {}),
    ("blobs/device", tarfile.CHRTYPE, {"devmajor": 1, "devminor": 5})])
def test_archives_with_what_is_no_file(images, tmp_path, layout, member):
    """skopeo would open it."""
    archive = make_tar(tmp_path / "hostile.tar", LAYOUT, INDEX, member)
    images.refuses("INVALID_ARGUMENT", "no files", "mine", f"oci-archive:{archive}")
