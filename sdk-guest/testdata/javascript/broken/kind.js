// wants: unknown kind "shuffle"; the kinds are call, map, combine, reduce
export const f = () => 1;
f.kind = "shuffle";
