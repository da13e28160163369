"""The subcommands of `videoldm`; torch is only imported by functions that need it."""
