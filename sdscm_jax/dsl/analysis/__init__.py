"""What a program is, found by running it on abstract values: sites, graph, contexts that may occur, causes."""
