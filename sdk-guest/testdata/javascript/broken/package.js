// wants: cannot import lodash: only files of the project can be imported; bundle packages into one file first
import x from "lodash";
export const f = () => x;
