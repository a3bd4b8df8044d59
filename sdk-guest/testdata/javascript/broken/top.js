// wants: thrown at the top
// wants: top.js:4
export const f = () => 1;
throw new Error("thrown at the top");
