"""Why a command cannot go on: the one exception that the command line prints as a sentence."""


class Problem(Exception):
    """The text names what is wrong and says what to do."""
