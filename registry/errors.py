"""The error of bad input: its message alone is what the user needs."""


class UserError(ValueError):
    """What the user gave is wrong: a config, a file, an argument. The message names it and the remedy.

    Commands print it as one line. Any other error keeps its traceback, those of the user's own parts as well.
    """
