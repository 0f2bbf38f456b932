"""Human feedback: votes, labelling, reward models, DPO, and what optimising a proxy costs."""
