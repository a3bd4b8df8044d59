import { answer } from "../lib/deep.js";
export const deep = () => answer;
export const later = (v) => Promise.resolve(v).then((x) => x + "?");
