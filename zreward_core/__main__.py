"""`python -m zreward_core` is the same as `zreward`; launchers start workers with it."""

from zreward_core.runtime.worker import die_with_parent

if __name__ == "__main__":
    die_with_parent()  # before the imports: the launcher may be killed during them
    from zreward_core.cli import main

    main()
