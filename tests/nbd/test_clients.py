"""Programs of others as clients of the served plugin, and the plugin as it is installed."""
import json
import os
import pathlib
import shutil
import subprocess

import pytest

from conftest import BUILD, MIB, PLUGIN, VHDX, Server, assert_sound, run, sha256


def need(program):
    if shutil.which(program) is None:
        pytest.skip(f'{program} is not installed')


@pytest.fixture(scope='module')
def filled(tmp_path_factory):
    """An image with data, holes and zeros, and its disk."""
    folder = tmp_path_factory.mktemp('filled')
    with open(folder / 'disk.raw', 'wb') as file:
        file.truncate(48 * MIB)
        for index, at in enumerate((0, 5 * MIB + 4096, 20 * MIB, 47 * MIB)):
            file.seek(at)
            file.write(bytes([index + 1]) * MIB)
    run(VHDX, 'convert', '--block-size', '1M', folder / 'disk.raw', folder / 'disk.vhdx')
    return folder


def test_nbdcopy_over_four_connections(filled, tmp_path):
    need('nbdcopy')
    with Server(filled / 'disk.vhdx', '--filter=log', f'logfile={tmp_path}/log', read_only=True) as server:
        run('nbdcopy', '--connections=4', '--threads=4', server.uri, tmp_path / 'out.raw')
    assert (tmp_path / 'log').read_text().count(' Connect ') >= 4  # one more asks what the server can
    assert sha256(tmp_path / 'out.raw') == sha256(filled / 'disk.raw')


def test_nbdcopy_both_ways_at_once(filled, tmp_path):
    """Each side starts its server itself."""
    need('nbdcopy')
    run(VHDX, 'create', tmp_path / 'b.vhdx', '48M')
    environment = {**os.environ, 'VHDX_NBDKIT_PLUGIN': str(PLUGIN)}
    subprocess.run(['nbdcopy', '--', '[', VHDX, 'serve', '-r', filled / 'disk.vhdx', ']', '[', VHDX, 'serve',
                    tmp_path / 'b.vhdx', ']'], env=environment, check=True, timeout=60)
    run(VHDX, 'compare', '--strict', filled / 'disk.raw', tmp_path / 'b.vhdx')
    assert_sound(tmp_path / 'b.vhdx')


def test_qemu_img(filled, tmp_path):
    need('qemu-img')
    with Server(filled / 'disk.vhdx', read_only=True) as server:
        uri = server.uri
        assert 'identical' in run('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', uri, filled / 'disk.raw')
        run('qemu-img', 'convert', '-f', 'raw', '-O', 'raw', uri, tmp_path / 'out.raw')
        extents = json.loads(run('qemu-img', 'map', '-f', 'raw', '--output=json', uri))
    assert sha256(tmp_path / 'out.raw') == sha256(filled / 'disk.raw')
    data = [(extent['start'], extent['length']) for extent in extents if extent['data']]
    assert data == [(at, MIB) for at in (0, 5 * MIB + 4096, 20 * MIB, 47 * MIB)]  # the host's holes are told, too


def test_nbdinfo_and_nbdsh(filled, server):
    need('nbdinfo')
    with Server(filled / 'disk.vhdx', read_only=True) as other:
        totals = json.loads(run('nbdinfo', '--map', '--totals', '--json', other.uri))
        assert sum(row['size'] for row in totals) == 48 * MIB
        assert sum(row['size'] for row in totals if row['type'] == 0) == 4 * MIB
    need('nbdsh')
    script = 'h.pwrite(b"x" * 5000, 1234); h.flush(); h.trim(1 << 20, 4 << 20); print(h.pread(5000, 1234).count(b"x"))'
    assert run('env', 'PATH=/usr/bin:/bin', 'nbdsh', '-u', server.uri, '-c', script).strip() == '5000'


def test_vhdx_itself(filled, tmp_path):
    if not (BUILD / 'modules' / 'vhdx-nbd.so').exists():
        pytest.skip('the module vhdx-nbd.so is not built')
    environment = {**os.environ, 'VHDX_MODULE_PATH': str(BUILD / 'modules'), 'VHDX_NBDKIT_PLUGIN': str(PLUGIN)}
    run(VHDX, 'create', tmp_path / 'b.vhdx', '64M')
    for words in (['convert', '[', VHDX, 'serve', '-r', filled / 'disk.vhdx', ']', '[', VHDX, 'serve',
                   tmp_path / 'b.vhdx', ']'],
                  ['compare', '[', VHDX, 'serve', '-r', tmp_path / 'b.vhdx', ']', filled / 'disk.raw']):
        subprocess.run([VHDX, *words], env=environment, check=True, timeout=60)
    assert (tmp_path / 'b.vhdx').stat().st_size < 16 * MIB
    assert_sound(tmp_path / 'b.vhdx')


def test_fio(image):
    need('fio')
    if 'nbd' not in run('fio', '--enghelp'):
        pytest.skip('fio has no engine for NBD')
    with Server(image) as server:
        run('fio', '--name=v', '--ioengine=nbd', f'--uri={server.uri}', '--rw=randwrite', '--bs=4k', '--size=8m',
            '--iodepth=16', '--numjobs=1', '--verify=crc32c', '--verify_state_save=0', '--fsync=64', '--randseed=3')
        assert server.stop() == 0
    assert_sound(image)


def test_found_by_its_name_when_installed():
    """nbdkit looks for `vhdx` as a file of this name in this folder; meson says where the file would go."""
    config = dict(line.split('=', 1) for line in run('nbdkit', '--dump-config').splitlines() if '=' in line)
    plan = json.loads((BUILD / 'meson-info' / 'intro-installed.json').read_text())
    assert plan[str(PLUGIN.resolve())] == f"{config['plugindir']}/nbdkit-vhdx-plugin.so"
    page = pathlib.Path(__file__).resolve().parents[2] / 'plugins' / 'nbdkit' / 'nbdkit-vhdx-plugin.pod'
    words = page.read_text()
    for line in run('nbdkit', PLUGIN, '--help').splitlines():
        if '=<' in line or '=true' in line:
            assert f"=item B<{line.split('=')[0].strip()}=" in words, line
