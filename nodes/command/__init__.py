"""The subcommands of `videoldm`; only the functions that need torch import it."""
