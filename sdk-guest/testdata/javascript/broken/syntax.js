// wants: syntax.js:4
// wants: SyntaxError
export function hello( { }
