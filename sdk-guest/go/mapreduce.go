package guest

import (
	"fmt"
	"iter"
)

// Map registers a mapper: it is called for each part of a split and emits records. The rest of a part that it does
// not read is skipped.
func Map[V any](name string, f func(ctx *Context, part *Part, emit Emit[V]) error) {
	encode := encoderOf[V]()
	register(name, "map", func(ctx *Context) error {
		if err := ctx.wants("split"); err != nil {
			return err
		}
		out := newEmitter(ctx, encode)
		for {
			part, err := ctx.input.nextPart()
			if err != nil {
				return err
			}
			if part == nil {
				return out.finish()
			}
			if err := f(ctx, part, out.emit); err != nil {
				return err
			}
			if part.err != nil {
				return part.err
			}
			ctx.input.skip(part.left)
		}
	})
}

// Reduce registers a reducer: it is called for each key, in ascending order of the keys' bytes, with all values of that
// key. It emits records, or writes to ctx.Output; not both. values can be read once; what is left of them is skipped.
func Reduce[V, R any](name string, f func(ctx *Context, key string, values iter.Seq[V], emit Emit[R]) error) {
	encode, decode := encoderOf[R](), decoderOf[V]()
	register(name, "reduce", func(ctx *Context) error {
		out := newEmitter(ctx, encode)
		err := eachGroup(ctx, decode, func(key string, values iter.Seq[V]) error {
			return f(ctx, key, values, out.emit)
		})
		if err != nil {
			return err
		}
		return out.finish()
	})
}

// Combine registers a combiner: it makes one value of several values of a key. The host may call it any number of
// times, on the mapper's side and again on its own results, so that less has to travel.
func Combine[V any](name string, f func(key string, values iter.Seq[V]) V) {
	encode, decode := encoderOf[V](), decoderOf[V]()
	register(name, "combine", func(ctx *Context) error {
		out := newEmitter(ctx, encode)
		err := eachGroup(ctx, decode, func(key string, values iter.Seq[V]) error {
			out.emit(key, f(key, values))
			return nil
		})
		if err != nil {
			return err
		}
		return out.finish()
	})
}

// wants checks that the function runs where it can: the input of another kind would be read as nonsense.
func (c *Context) wants(input string) error {
	if got := c.tell().Input; got != "" && got != input {
		return Permanent(fmt.Errorf("function %s reads %s, but was given %s: run it in a stage of a job that fits its kind", c.function, input, got))
	}
	return nil
}

// eachGroup calls f for each key of an input of groups.
func eachGroup[V any](ctx *Context, decode decoder[V], f func(key string, values iter.Seq[V]) error) error {
	if err := ctx.wants("groups"); err != nil {
		return err
	}
	in := &ctx.input
	for {
		n, ok, err := in.uvarint()
		if err != nil || !ok {
			return err
		}
		b, err := in.next(n)
		if err != nil {
			return err
		}
		g := group{in: in, key: string(b)}
		err = f(g.key, func(yield func(V) bool) {
			for {
				b := g.next()
				if b == nil {
					return
				}
				v, err := decode(b)
				if err != nil {
					g.err = Permanent(fmt.Errorf("a value of key %q is not what function %s takes: %w", g.key, ctx.function, err))
					return
				}
				if !yield(v) {
					return
				}
			}
		})
		if g.err != nil {
			return g.err // what f made of half of the values does not count
		}
		if err != nil {
			return err
		}
		if err := g.skip(); err != nil {
			return err
		}
	}
}

// group is the values of one key.
type group struct {
	in   *input
	key  string
	done bool
	err  error
}

// size reads the length of the next value; done is set where there is none.
func (g *group) size() uint64 {
	if g.done || g.err != nil {
		return 0
	}
	n, ok, err := g.in.uvarint()
	switch {
	case err != nil:
		g.err = err
	case !ok:
		g.err = errCut
	case n == 0:
		g.done = true
	default:
		return n - 1
	}
	return 0
}

func (g *group) next() []byte {
	n := g.size()
	if g.done || g.err != nil {
		return nil
	}
	b, err := g.in.next(n)
	g.err = err
	if b == nil && err == nil {
		b = []byte{}
	}
	return b
}

func (g *group) skip() error {
	for {
		n := g.size()
		if g.done || g.err != nil {
			return g.err
		}
		g.in.skip(n)
	}
}
