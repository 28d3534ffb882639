"""How the networks and the judge are trained, stage by stage."""
