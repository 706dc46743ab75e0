"""The command `relevance`: one file a group of subcommands, its flags beside what it does."""
