export const answer = "from deep";
