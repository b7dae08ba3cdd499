"""The process of one service: authenticates, splits the traffic and answers, without the platform and its database."""
