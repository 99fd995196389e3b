"""`dialerd simulate`: what a campaign would come to, by the real planner on a simulated PBX, as time jumps."""
