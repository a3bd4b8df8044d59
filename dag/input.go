package dag

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"google.golang.org/protobuf/proto"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
)

// InlineBytes is how much travels inside records; more becomes a blob.
const InlineBytes = 64 << 10

// DefaultSplitBytes is the largest size of a split that no spec says.
const DefaultSplitBytes = 4 << 20

// Putter stores bytes as blobs.
type Putter interface {
	Put(ctx context.Context, r io.Reader) (digest.Digest, int64, error)
}

// input fills in what a stage's tasks are.
func (b *planning) input(ctx context.Context, s *wattlev1.StageSpec, ps *storev1.PlanStage) error {
	const call, mapping, reduce = wattlev1.FunctionKind_FUNCTION_KIND_CALL, wattlev1.FunctionKind_FUNCTION_KIND_MAP, wattlev1.FunctionKind_FUNCTION_KIND_REDUCE
	kind := ps.Function.GetKind()
	if ps.External {
		kind = call // it gets bytes and puts out bytes
	}
	need := func(want string, ok bool) error {
		switch {
		case ps.External && ok:
			return nil
		case ps.External:
			return invalid("external_input", "it is external, and clients get the bytes of one input").
				Hint("give it one of value, items, files and each")
		case ps.Function == nil:
			return invalid("no_function", "it names no function").Hint("say function: SERVICE/FUNCTION")
		case !ok:
			return wrongKind(s.Function, kind, want)
		}
		return nil
	}
	oneInput := "its input is for a call or a map"
	switch in := s.Input.(type) {
	case *wattlev1.StageSpec_Value:
		ps.Input = storev1.InputKind_INPUT_KIND_VALUE
		v := in.Value.GetData()
		if in.Value.GetText() != "" {
			if v != nil {
				return invalid("bad_value", "value has both text and data").Hint("leave one of them out")
			}
			v = []byte(in.Value.GetText())
		}
		if err := need(oneInput, kind == call || kind == mapping); err != nil {
			return err
		}
		return b.table(ctx, ps, [][]byte{v}, int64(len(v)))
	case *wattlev1.StageSpec_Items:
		ps.Input = storev1.InputKind_INPUT_KIND_ITEMS
		if err := need(oneInput, kind == call || kind == mapping); err != nil {
			return err
		}
		if len(in.Items.GetItems()) == 0 {
			return invalid("no_items", "the list of items is empty").Hint("each item makes one task: list at least one")
		}
		items, size := make([][]byte, len(in.Items.Items)), int64(0)
		for i, item := range in.Items.Items {
			items[i] = []byte(item)
			size += int64(len(item))
		}
		return b.table(ctx, ps, items, size)
	case *wattlev1.StageSpec_Files:
		ps.Input = storev1.InputKind_INPUT_KIND_FILES
		if err := need("files are for a call or a map", kind == call || kind == mapping); err != nil {
			return err
		}
		return b.files(ctx, in.Files, ps, kind == mapping)
	case *wattlev1.StageSpec_Each:
		ps.Input = storev1.InputKind_INPUT_KIND_EACH
		ps.Tasks = b.plan.Stages[ps.From].Tasks
		return need(oneInput, kind == call || kind == mapping)
	case *wattlev1.StageSpec_Reduce:
		ps.Input = storev1.InputKind_INPUT_KIND_REDUCE
		if ps.Tasks = in.Reduce.GetPartitions(); ps.Tasks == 0 {
			ps.Tasks = max(b.Partitions(), 1)
		}
		if ps.Tasks > MaxPartitions {
			return invalid("too_many_partitions", "%d partitions: the limit is %d", ps.Tasks, MaxPartitions).Hint("leave it out: twice the slots of the cluster are the default")
		}
		return need("a reduce stage needs a reduce function", kind == reduce)
	case *wattlev1.StageSpec_Collect:
		ps.Input = storev1.InputKind_INPUT_KIND_COLLECT
		ps.Tasks = 1
		if ps.External {
			return need("", false) // the parts of a collect are for functions
		}
		if ps.Function == nil {
			return nil
		}
		return need("outputs are collected by a call or a map", kind == call || kind == mapping)
	}
	return invalid("no_input", "it has no input").Hint("give it one of value, items, files, each, reduce and collect")
}

// files lists the input and cuts it into splits.
func (b *planning) files(ctx context.Context, in *wattlev1.FilesInput, ps *storev1.PlanStage, pack bool) error {
	if in.GetDir() == "" {
		return invalid("no_dir", "files has no dir").Hint("say which directory to read: files: {dir: /path}")
	}
	files, err := b.Files.List(ctx, in.Dir, in.Glob)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return invalid("no_files", "no file below %s matches %q", in.Dir, in.Glob).Hint("check dir and glob; glob \"*\" takes every file")
	}
	if !pack && in.HeaderLines > 0 {
		return invalid("header_without_map", "header_lines needs a map function: a call gets the bytes alone").Hint("leave header_lines out, or use a function of kind map")
	}
	size := int64(in.SplitBytes)
	if size <= 0 {
		size = splitBytes(files, b.Partitions())
	}
	splits, total := cut(files, size, in.Whole || !pack && in.SplitBytes == 0, pack, in.HeaderLines)
	entries := make([][]byte, len(splits))
	for i, s := range splits {
		if entries[i], err = proto.Marshal(s); err != nil {
			return err
		}
	}
	ps.Node = b.Node
	return b.table(ctx, ps, entries, total)
}

// splitBytes is the size of splits that no spec says: small enough that few large files keep all slots busy to the end, large
// enough that starting a task does not matter.
func splitBytes(files []File, partitions uint32) int64 {
	const least = 256 << 10
	var total int64
	for _, f := range files {
		total += f.Size
	}
	return min(max(total/int64(2*max(partitions, 1)), least), DefaultSplitBytes)
}

// cut makes splits of about size bytes: large files are cut unless whole, small ones share a split if pack.
func cut(files []File, size int64, whole, pack bool, header uint32) (splits []*storev1.Split, total int64) {
	var open *storev1.Split
	var room int64
	for _, f := range files {
		total += f.Size
		part := func(offset, length int64, lines bool) *storev1.FilePart {
			return &storev1.FilePart{
				Path: f.Path, Name: f.Name, Offset: uint64(offset), Length: uint64(length), FileSize: uint64(f.Size),
				ModifiedAt: f.Modified.UnixNano(), HeaderLines: header, Lines: lines,
			}
		}
		if f.Size > size && !whole {
			n := (f.Size + size - 1) / size
			for i := range n {
				from, to := f.Size*i/n, f.Size*(i+1)/n
				splits = append(splits, &storev1.Split{Parts: []*storev1.FilePart{part(from, to-from, true)}})
			}
			continue
		}
		if open == nil || !pack || f.Size > room {
			open, room = &storev1.Split{}, size
			splits = append(splits, open)
		}
		open.Parts = append(open.Parts, part(0, f.Size, false))
		room -= f.Size
	}
	return splits, total
}

// table stores the inputs of a stage's tasks, one entry each.
func (b *planning) table(ctx context.Context, ps *storev1.PlanStage, entries [][]byte, size int64) error {
	if len(entries) > MaxTasks {
		return invalid("too_many_tasks", "%d tasks: the limit is %d", len(entries), MaxTasks).Hint("make the splits larger")
	}
	ps.Tasks = uint32(len(entries))
	ps.InputBytes = uint64(size)
	t := encodeTable(entries)
	ps.Table = &storev1.Bytes{Size: uint64(len(t))}
	if len(t) <= InlineBytes {
		ps.Table.Inline = t
		return nil
	}
	d, _, err := b.Blobs.Put(ctx, bytes.NewReader(t))
	ps.Table.Digest = d.String()
	return err
}

// A table is its entries one after the other, then the end of each as 8 bytes, so that one entry is found
// in two reads however many there are.
func encodeTable(entries [][]byte) []byte {
	var t, ends []byte
	for _, e := range entries {
		t = append(t, e...)
		ends = binary.BigEndian.AppendUint64(ends, uint64(len(t)))
	}
	return append(t, ends...)
}

// TableEntry returns entry i of a table of n entries that takes size bytes in r.
func TableEntry(r io.ReaderAt, size int64, n, i uint32) ([]byte, error) {
	ends := size - 8*int64(n)
	if i >= n || ends < 0 {
		return nil, fault.New(fault.Corrupt, "damaged_table", "a table of %d bytes has no entry %d of %d", size, i, n)
	}
	var b [16]byte
	if i == 0 {
		if _, err := io.ReadFull(io.NewSectionReader(r, ends, 8), b[8:]); err != nil {
			return nil, fmt.Errorf("read table: %w", err)
		}
	} else if _, err := io.ReadFull(io.NewSectionReader(r, ends+8*int64(i-1), 16), b[:]); err != nil {
		return nil, fmt.Errorf("read table: %w", err)
	}
	from, to := int64(binary.BigEndian.Uint64(b[:8])), int64(binary.BigEndian.Uint64(b[8:]))
	if from < 0 || from > to || to > ends {
		return nil, fault.New(fault.Corrupt, "damaged_table", "entry %d of a table lies at %d to %d of %d bytes", i, from, to, ends)
	}
	e := make([]byte, to-from)
	if _, err := io.ReadFull(io.NewSectionReader(r, from, to-from), e); err != nil {
		return nil, fmt.Errorf("read table: %w", err)
	}
	return e, nil
}
