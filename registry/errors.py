"""UserError: bad input by the user, reported without traceback."""


class UserError(ValueError):
    """Bad input: a config, a file, an argument. The message names it and the remedy.

    Commands print it as one line. All other errors keep their traceback, also those of the user's own parts.
    """
