"""A small Debian package, made without Debian's tools: deb(5), an ar archive of three members."""

import gzip
import io
import pathlib
import tarfile


def _tar(members):
    """A compressed tar archive of {name: (bytes, mode)}."""
    plain = io.BytesIO()
    folders = sorted({str(folder) for name in members for folder in pathlib.PurePosixPath(name).parents} - {"."})
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for folder in folders:
            entry = tarfile.TarInfo(f"./{folder}/")
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name, (content, mode) in members.items():
            entry = tarfile.TarInfo(f"./{name}")
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), mtime=0)


def package(name, files, postinst):
    """The bytes of a package. @files: {path: bytes}; @postinst: a shell script that runs when it is installed"""
    control = (f"Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\n"
               f"Description: made by a test\n")
    members = [(b"debian-binary", b"2.0\n"),
               (b"control.tar.gz", _tar({"control": (control.encode(), 0o644), "postinst": (postinst.encode(), 0o755)})),
               (b"data.tar.gz", _tar({path: (content, 0o644) for path, content in files.items()}))]
    archive = b"!<arch>\n"
    for member, content in members:
        archive += member.ljust(16) + b"0".ljust(12) + b"0".ljust(6) * 2 + b"100644".ljust(8)
        archive += str(len(content)).encode().ljust(10) + b"`\n" + content + b"\n" * (len(content) % 2)
    return archive
