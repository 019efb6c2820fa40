"""Make a version smaller or faster: passes over a graph, each with its settings, tried in processes of their own. Others judge."""
