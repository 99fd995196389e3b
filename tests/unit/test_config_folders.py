"""Where uploads are kept while they are read."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from dialerd.config import parse
from dialerd.config.folders import upload_folder

_SQLITE = 'store.url = "sqlite:////srv/dialer/calls.db"'
_POSTGRES = 'store.url = "postgresql://dialerd@db/dialerd"'


@pytest.mark.parametrize(
    ("text", "environ", "folder"),
    [
        ("", {}, Path("/var/lib/dialerd/dialerd.db-uploads")),
        (_SQLITE, {"STATE_DIRECTORY": "/var/lib/dialerd"}, Path("/srv/dialer/calls.db-uploads")),
        (_POSTGRES, {"STATE_DIRECTORY": "/var/lib/dialerd:/var/lib/more"}, Path("/var/lib/dialerd/uploads")),
        (f'server.upload_folder = "/big/disk"\n{_SQLITE}', {}, Path("/big/disk")),
        (f'server.upload_folder = "in"\n{_POSTGRES}', {}, Path("/etc/dialerd/in")),
    ],
)
def test_uploads_lie_beside_the_store_or_where_the_file_says(text: str, environ: dict[str, str], folder: Path) -> None:
    config = parse(text, {}, Path("/etc/dialerd/dialerd.toml"), Path.read_text)
    assert upload_folder(config, environ) == folder


def test_without_any_place_of_our_own_they_lie_among_the_temporary_files_for_this_user_alone() -> None:
    config = parse(_POSTGRES, {}, Path("dialerd.toml"), Path.read_text)
    folder = upload_folder(config, {})
    assert folder.parent == Path(tempfile.gettempdir())
    assert folder.name.startswith("dialerd-uploads-")
