"""Print the page digest of a disk served over NBD: read_pages.py URI FILE, with a JSON list of [start, length]."""
import json
import pathlib
import sys

import nbd

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import guest  # noqa: E402

LARGEST_READ = 16 * 1024 * 1024

client = nbd.NBD()
client.connect_uri(sys.argv[1])
digest = guest.PageDigest()
for start, length in json.loads(pathlib.Path(sys.argv[2]).read_text()):
    for offset in range(start, start + length, LARGEST_READ):
        digest.add(offset, client.pread(min(LARGEST_READ, start + length - offset), offset))
print(digest.hexdigest())
