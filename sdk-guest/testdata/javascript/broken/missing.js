// wants: cannot import nowhere.js: only files of the project
import x from "./nowhere.js";
export const f = () => x;
