//go:build slotcheck

package host

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"sync"
)

// insides remembers what inside said of each slot at first.
var insides sync.Map

// verify compares all there is of a slot's state with the image: what a call left behind would be found by the next
// one. It is slow, and reads what wazero does not show, so that only a build for tests has it.
func (s *slot) verify() error {
	img := s.entry.image
	if s.memory.size != img.length {
		return fmt.Errorf("slot check: the memory has %d bytes, the image %d", s.memory.size, img.length)
	}
	if img.length > 0 {
		b := s.memory.region.bytes(img.length)
		if !bytes.Equal(b[:len(img.memory)], img.memory) {
			return fmt.Errorf("slot check: the memory differs from the image")
		}
		if i := slices.IndexFunc(b[len(img.memory):], func(c byte) bool { return c != 0 }); i >= 0 {
			return fmt.Errorf("slot check: byte %d beyond the image is not zero", i)
		}
	}
	if g := s.instance.globals(); !slices.Equal(g, img.globals) {
		return fmt.Errorf("slot check: the globals are %v, in the image %v", g, img.globals)
	}
	state := s.instance.(*wazeroInstance).inside()
	if was, _ := insides.LoadOrStore(s, state); was != state {
		return fmt.Errorf("slot check: tables or files changed:\n%s\nwas\n%s", state, was)
	}
	return nil
}

// inside describes the tables and the open files of an instance.
func (w *wazeroInstance) inside() string {
	m := reflect.ValueOf(w.mod).Elem()
	out := ""
	for tables, i := m.FieldByName("Tables"), 0; i < tables.Len(); i++ {
		out += fmt.Sprintln("table", i, tables.Index(i).Elem().FieldByName("References"))
	}
	for files, fd := m.FieldByName("Sys").MethodByName("FS").Call(nil)[0], int32(0); fd < 16; fd++ {
		found := files.MethodByName("LookupFile").Call([]reflect.Value{reflect.ValueOf(fd)})
		out += fmt.Sprintln("file", fd, found[1].Bool())
	}
	return out
}
