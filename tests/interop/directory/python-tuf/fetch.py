"""A target of a directory, by python-tuf's stock client.

    fetch.py ROOT URL CACHE TARGET

Prints {"found": TEXT}, {"found": null} where nobody has signed such a target, or {"refused": WHY}.
"""

import json
import pathlib
import sys

from tuf.api.exceptions import DownloadError, RepositoryError
from tuf.ngclient import Updater


def main():
    root, url, cache, target = sys.argv[1:]
    cache = pathlib.Path(cache)
    for folder in ("metadata", "targets"):
        (cache / folder).mkdir(parents=True, exist_ok=True)
    try:
        updater = Updater(
            metadata_dir=str(cache / "metadata"),
            metadata_base_url=f"{url}/metadata/",
            target_dir=str(cache / "targets"),
            target_base_url=f"{url}/targets/",
            bootstrap=pathlib.Path(root).read_bytes(),
        )
        updater.refresh()
        info = updater.get_targetinfo(target)
        found = None
        if info is not None:
            found = pathlib.Path(updater.download_target(info)).read_text()
        print(json.dumps({"found": found}))
    except (DownloadError, RepositoryError) as error:
        print(json.dumps({"refused": f"{type(error).__name__}: {error}"}))


main()
