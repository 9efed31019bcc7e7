"""What the flow stands on: the dev stack, the command line, the settings of machines.

Nothing here takes part in the flow itself; stages never import it.
"""
