// The outcomes of a call, as the API names them.

export const OUTCOMES = [
  "answered", "machine", "abandoned", "busy", "no_answer", "rejected", "invalid_number", "congestion", "unreachable",
  "interrupted", "cancelled", "failed",
];
