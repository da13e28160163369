"""The subcommands of `videoldm`. Each module imports torch only inside the functions that need it."""
