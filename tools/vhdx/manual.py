#!/usr/bin/env python3
"""Cuts the manual of the command into a page for each verb.

  manual.py --list MANUAL.pod            the verbs, a line each
  manual.py MANUAL.pod FOLDER RELEASE    FOLDER/vhdx-VERB.1 for each of them, by pod2man

The manual stays one text; a page repeats nothing of it and says where the options that verbs share are told.
"""
import pathlib
import re
import subprocess
import sys


def verbs_of(manual):
    """(verb, its heading, its text), in the order of the manual."""
    body = manual.split("=head1 VERBS\n", 1)[1].split("\n=head1 ", 1)[0]
    for section in re.split(r"^=head2 ", body, flags=re.M)[1:]:
        heading, text = section.split("\n", 1)
        yield heading.split()[0], heading, text.strip()


def summary_of(text):
    """The first sentence, as a page's name line has it."""
    first = re.sub(r"[A-Z]<+ ?(.*?) ?>+", r"\1", " ".join(text.split("\n\n", 1)[0].split()))
    sentence = re.split(r"[.:;](?: |$)", first)[0]
    return sentence[0].lower() + sentence[1:]


def page(verb, heading, text):
    text = re.sub(r"L<(?:[^|<>]*\|)?/(?:\"([^\"]*)\"|([^<>]*))>", r"L<vhdx(1)/\1\2>", text)  # what was inside is outside now
    description, _, example = text.partition("\nExample:\n")
    pod = [f"=encoding utf8\n\n=head1 NAME\n\nvhdx-{verb} - {summary_of(text)}\n\n=head1 SYNOPSIS\n\n vhdx {heading}\n",
           f"=head1 DESCRIPTION\n\n{description.strip()}\n",
           "Options that several verbs take, the environment and what JSON documents have in common are in L<vhdx(1)>.\n"]
    if example.strip():
        pod.append(f"=head1 EXAMPLES\n\n {example.strip()}\n")
    pod.append("=head1 SEE ALSO\n\nL<vhdx(1)>\n")
    return "\n".join(pod)


def write_page(folder, release, verb, heading, text):
    command = ["pod2man", "--section=1", f"--name=VHDX-{verb.upper()}", "--center=libvhdx", f"--release={release}", "--utf8",
               "--errors=die", "-", str(folder / f"vhdx-{verb}.1")]
    subprocess.run(command, input=page(verb, heading, text).encode(), check=True)


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--list":
        print("\n".join(verb for verb, _, _ in verbs_of(pathlib.Path(sys.argv[2]).read_text(encoding="utf-8"))))
    elif len(sys.argv) == 4:
        for section in verbs_of(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")):
            write_page(pathlib.Path(sys.argv[2]), sys.argv[3], *section)
    else:
        sys.exit(__doc__)


main()
