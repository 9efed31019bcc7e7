"""The strategies that come with the project, one module a kind, and the registry that finds all kinds."""
