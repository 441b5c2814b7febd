"""Mutated files and requests against everything that the project opens: `python -m tests.fuzz --help`.

A format (`base.Format`) makes tiny genuine files and opens them as the project does. Each mutant is opened in a child
process whose memory and time are limited, and must be read or be refused by an error that names the file.
"""
