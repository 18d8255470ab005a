"""`python -m zreward_core` is `zreward`; it is how launchers start workers."""

from zreward_core.runtime.worker import die_with_parent

if __name__ == "__main__":
    die_with_parent()  # before the imports: a launcher may be killed while they last
    from zreward_core.cli import main

    main()
