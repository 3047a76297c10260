"""Writes essays with a needle: haystack.py CHARACTERS DEPTH OUT. DEPTH is 0 .. 1; about 4.4 characters a token."""
import glob
import sys

characters, depth, out = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
hay = ""
for path in sorted(glob.glob(".deps/essays/*.txt")):
    with open(path, encoding="utf-8") as file:
        hay += file.read()
hay = hay[:characters]
at = hay.find("\n\n", int(len(hay) * depth))
at = len(hay) if at < 0 else at
with open(out, "w", encoding="utf-8") as file:
    file.write(hay[:at] + "\n\nThe special magic Berlin number is: 7391524." + hay[at:])
