// wants: exports no functions
export const x = 1;
