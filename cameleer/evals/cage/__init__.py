r"""The inside of the sandbox: a process that puts up the layers, runs a program, and keeps time.

    python -I -S -c "…; from cage import jobs; …; jobs.main()" \
        FOLDER MEMORY SECONDS READABLE HIDDEN WITHOUT

For each job it forks a process (`jobs.py`), which leaves for namespaces of its own
(`namespaces.py`) and forks twice: the tests' process, the first of a new process namespace, then
the program's. Each cages itself further (`layers.py`, `fence.py`, `calls.py`) and forgets what is
not its own; the program never holds the tests, in memory or otherwise (`exchange.py`). The first
process keeps time and ends the others (`watch.py`).

On standard input come jobs, lines of JSON that only the tests' process reads; on standard output go
verdicts, lines too. Arguments are JSON; the last three are lists: paths to read, paths among them
to hide, and layers to leave out, for trials of the others.

Everything here needs the standard library alone, and is imported twice: as `cameleer.evals.cage`
outside and as `cage` inside, where cameleer cannot be read; so imports among these files are
relative.
"""
