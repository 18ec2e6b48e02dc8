"""vhdx map --svg, --html, --term: what the pictures say, as a reader of XML, a browser and a terminal see it."""
import os
import pathlib
import re
import resource
import xml.etree.ElementTree as xml

import pytest

from conftest import MIB

SVG = "{http://www.w3.org/2000/svg}"
GPT_SIZE = 64 * MIB


@pytest.fixture
def chain(vhdx, peer, tmp_path):
    """A child over a base with two partitions; 1 MiB blocks."""
    with open(tmp_path / "disk.raw", "wb") as file:
        file.truncate(GPT_SIZE)
        file.seek(20 * MIB)
        file.write(b"x" * 3 * MIB)
    peer("sgdisk", "-n1:2048:+15M", "-n2:0:0", "disk.raw")
    vhdx("convert", "-f", "raw", "--block-size", "1M", "disk.raw", "base.vhdx")
    vhdx("create", "--parent", "base.vhdx", "child.vhdx")
    vhdx("bench", "-w", "-c", "4", "-s", "1M", "-S", "2M", "-o", "40M", "child.vhdx")
    return "child.vhdx"


def titles(path):
    """The titles of the pieces, and that every piece has one and something to be seen."""
    root = xml.parse(path).getroot()
    pieces = [piece for piece in root.iter(SVG + "g") if piece.get("class") == "c"]
    assert all(piece.find(SVG + "rect") is not None for piece in pieces)
    return [piece.find(SVG + "title").text for piece in pieces]


def test_the_pieces_of_the_disk_cover_it_and_say_what_the_table_says(vhdx, chain, tmp_path):
    vhdx("map", "--svg", "a.svg", chain)
    position = data = 0
    for title in titles(tmp_path / "a.svg"):
        if not title.startswith("disk "):
            continue
        start, end, rest = re.fullmatch(r"disk 0x([0-9a-f]+) to 0x([0-9a-f]+) \([^)]*\): (.*)", title).groups()
        assert int(start, 16) == position
        position = int(end, 16)
        if rest.startswith("data in child.vhdx; in the file at 0x"):
            data += position - int(start, 16)
    assert position == GPT_SIZE
    extents = vhdx.json("map", "--json", chain)
    assert data == sum(e["length"] for e in extents if e["data"] and e["depth"] == 0) == 4 * MIB


def test_partitions_and_regions_are_named(vhdx, chain, tmp_path):
    vhdx("map", "--svg", "a.svg", chain)
    told = "\n".join(titles(tmp_path / "a.svg"))
    for words in "partition 1: ", "partition 2: ", ": headers", ": log", ": metadata", ": block allocation table", \
            "blocks of the disk; on the disk at 0x2800000", "base.vhdx; in the file at":
        assert words in told, words


def test_names_are_no_markup(vhdx, tmp_path):
    name = "<script>alert(1)<&\"\x1b[31m.vhdx"
    vhdx("create", name, "10M")
    vhdx("map", "--svg", "a.svg", "--html", "a.html", name)
    assert "<script>alert(1)<&\"\\x1b[31m.vhdx" in "".join(xml.parse(tmp_path / "a.svg").getroot().itertext())
    page = (tmp_path / "a.html").read_text()
    assert page.count("<script>") == 1 and "\x1b" not in page
    assert not re.search(r"(src|href)=", page), "something is loaded"


def test_64_tib_fit_a_page(vhdx, tmp_path):
    vhdx("create", "--block-size", "1M", "a.vhdx", "64T")
    vhdx("bench", "-w", "-c", "2", "-s", "1M", "-o", str(63 << 40), "a.vhdx")
    vhdx("map", "--svg", "a.svg", "a.vhdx")
    assert os.path.getsize(tmp_path / "a.svg") < 2 * MIB
    assert any("data in a.vhdx" in title for title in titles(tmp_path / "a.svg"))


def test_a_terminal_gets_letters_in_a_pipe(vhdx, chain):
    lines = vhdx("map", "--term", chain).decode().splitlines()
    cells = "".join(line.split()[1] for line in lines if line.startswith("0x"))
    assert set(cells) == set(".1#") and len(cells) <= 16 * 61
    assert lines[-2].startswith("#  data in child.vhdx: 4 MiB") and lines[-1].startswith("1  data in ")
    assert re.fullmatch(r"\.+", re.search(r"^0x0 +(\S+)$", vhdx("map", "--term", "--parents=none", chain).decode(), re.M)
                        .group(1).replace("#", ".").replace("?", "."))


def test_pictures_are_files_like_others(vhdx, chain, tmp_path):
    (tmp_path / "there.svg").write_text("precious")
    assert "there.svg: exists already" in vhdx.fails(1, "map", "--svg", "there.svg", chain)
    assert (tmp_path / "there.svg").read_text() == "precious"
    assert "another file" in vhdx.fails(1, "map", "--force", "--svg", "base.vhdx", chain)
    vhdx("map", "--force", "--svg", "there.svg", chain)
    assert titles(tmp_path / "there.svg")
    assert "do not go together" in vhdx.fails(2, "map", "--json", "--html", "a.html", chain)
    assert "none.vhdx" in vhdx.fails(1, "map", "--svg", "b.svg", "none.vhdx")
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # noqa: E731
    done = vhdx.run("map", "--html", "c.html", chain, preexec_fn=limit)
    assert done.returncode != 0
    assert not [name for name in os.listdir(tmp_path) if name.startswith((".", "b.", "c."))]


def test_a_browser_shows_what_the_pointer_is_on(vhdx, chain, tmp_path):
    selenium = pytest.importorskip("selenium.webdriver", reason="no python3-selenium")
    if not pathlib.Path("/usr/bin/chromedriver").exists():
        pytest.skip("no chromium-driver")
    from selenium.webdriver.chrome.service import Service
    vhdx("map", "--html", "a.html", chain)
    options = selenium.ChromeOptions()
    for argument in "--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,900":
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = selenium.Chrome(service=Service("/usr/bin/chromedriver"), options=options)
    try:
        browser.get(f"file://{tmp_path}/a.html")
        told = lambda: browser.find_element("id", "told").text  # noqa: E731
        pieces = browser.find_elements("css selector", "svg g.c")
        ours = next(p for p in pieces if "data in child.vhdx" in p.get_attribute("data-told"))
        other = next(p for p in pieces if "base.vhdx" in p.get_attribute("data-told"))
        pointer = selenium.ActionChains(browser)
        pointer.move_to_element(ours).perform()
        assert told().startswith("disk 0x2800000 to 0x2900000 (1 MiB): data in child.vhdx; in the file at 0x")
        pointer.click(ours).perform()
        pointer.move_to_element(other).perform()
        assert "child.vhdx" in told(), "a click holds it"
        pointer.click(other).perform()
        assert "base.vhdx" in told()
        pointer.click(other).perform()
        pointer.move_to_element(browser.find_element("tag name", "table")).perform()
        assert told().startswith("Point at a piece")
        assert browser.get_log("browser") == []
    finally:
        browser.quit()
