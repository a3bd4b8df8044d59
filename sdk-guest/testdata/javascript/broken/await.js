// wants: never settled
await new Promise(() => {});
export const f = () => 1;
