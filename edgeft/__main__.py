"""`python -m edgeft` is the command line; in a folder with code of others it is `python -P -m edgeft` or `edgeft`."""

if __name__ == "__main__":
    import sys

    # -m has put the working directory first: it goes before anything is imported.
    directory = None if sys.flags.safe_path else sys.path.pop(0)

    from edgeft.cli import main
    from edgeft.processes import keep_importable

    if directory is not None:
        keep_importable(directory)
    main()
