package host

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	experimentalsys "github.com/tetratelabs/wazero/experimental/sys"
	"github.com/tetratelabs/wazero/sys"
)

// Mount is a folder of a guest's file system. A guest sees what lies below Root; no link leads it out.
type Mount struct {
	Path string // where the guest finds it, such as "/data"
	Root *os.Root
	// Write lets the guest change what is there. What it writes counts as output.
	Write bool
}

// maxOpenFiles bounds the files a call has open, so that it cannot use up those of the process.
const maxOpenFiles = 128

// guestFiles is a Mount for one instance.
type guestFiles struct {
	experimentalsys.UnimplementedFS
	Mount
	call *running
}

func (g *guestFiles) OpenFile(path string, flag experimentalsys.Oflag, perm fs.FileMode) (experimentalsys.File, experimentalsys.Errno) {
	// Not to wait for the other end of a pipe, which is refused below.
	mode := os.O_RDONLY | syscall.O_NONBLOCK
	write := true
	switch flag & (experimentalsys.O_RDWR | experimentalsys.O_WRONLY) {
	case experimentalsys.O_RDWR:
		mode |= os.O_RDWR
	case experimentalsys.O_WRONLY:
		mode |= os.O_WRONLY
	default:
		write = false
	}
	for from, to := range map[experimentalsys.Oflag]int{
		experimentalsys.O_CREAT: os.O_CREATE, experimentalsys.O_EXCL: os.O_EXCL, experimentalsys.O_TRUNC: os.O_TRUNC,
	} {
		if flag&from != 0 {
			mode |= to
		}
	}
	if !g.Write && (write || mode&(os.O_CREATE|os.O_TRUNC) != 0) {
		return nil, experimentalsys.EROFS
	}
	if g.call.opened >= maxOpenFiles {
		return nil, experimentalsys.EAGAIN // WASI's error for too many files cannot be said here
	}
	if flag&experimentalsys.O_NOFOLLOW != 0 {
		if st, err := g.Root.Lstat(path); err == nil && st.Mode()&fs.ModeSymlink != 0 {
			return nil, experimentalsys.ELOOP
		}
	}
	g.call.charge(2000)
	f, err := g.Root.OpenFile(path, mode, perm&0o777)
	if err != nil {
		return nil, errno(err)
	}
	st, err := f.Stat()
	switch {
	case err != nil:
	case !st.Mode().IsRegular() && !st.IsDir():
		err = fs.ErrPermission
	case flag&experimentalsys.O_DIRECTORY != 0 && !st.IsDir():
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, errno(errors.Join(err, f.Close()))
	}
	g.call.opened++
	return &guestFile{File: f, of: g, path: path, dir: st.IsDir(), write: write, append_: flag&experimentalsys.O_APPEND != 0}, 0
}

// errno turns an error of package os into one of WASI's.
func errno(err error) experimentalsys.Errno {
	if err == nil {
		return 0
	}
	system := syscall.Errno(0)
	switch {
	case errors.As(err, &system):
		return experimentalsys.UnwrapOSError(system)
	case errors.Is(err, fs.ErrNotExist):
		return experimentalsys.ENOENT
	case errors.Is(err, fs.ErrExist):
		return experimentalsys.EEXIST
	case errors.Is(err, fs.ErrInvalid):
		return experimentalsys.EINVAL
	case errors.Is(err, fs.ErrClosed):
		return experimentalsys.EBADF
	}
	return experimentalsys.EPERM // it leads out of the root
}

func stat(info fs.FileInfo, err error) (sys.Stat_t, experimentalsys.Errno) {
	if err != nil {
		return sys.Stat_t{}, errno(err)
	}
	return sys.NewStat_t(info), 0
}

func (g *guestFiles) Stat(path string) (sys.Stat_t, experimentalsys.Errno) {
	g.call.charge(2000)
	return stat(g.Root.Stat(path))
}

func (g *guestFiles) Lstat(path string) (sys.Stat_t, experimentalsys.Errno) {
	g.call.charge(2000)
	return stat(g.Root.Lstat(path))
}

func (g *guestFiles) Readlink(path string) (string, experimentalsys.Errno) {
	g.call.charge(2000)
	to, err := g.Root.Readlink(path)
	return to, errno(err)
}

// change does something that is not for those who may only read.
func (g *guestFiles) change(do func() error) experimentalsys.Errno {
	if !g.Write {
		return experimentalsys.EROFS
	}
	g.call.charge(5000)
	return errno(do())
}

func (g *guestFiles) Mkdir(path string, perm fs.FileMode) experimentalsys.Errno {
	return g.change(func() error { return g.Root.Mkdir(path, perm&0o777) })
}

func (g *guestFiles) Rename(from, to string) experimentalsys.Errno {
	return g.change(func() error { return g.Root.Rename(from, to) })
}

func (g *guestFiles) Rmdir(path string) experimentalsys.Errno { return g.remove(path, true) }

func (g *guestFiles) Unlink(path string) experimentalsys.Errno { return g.remove(path, false) }

func (g *guestFiles) remove(path string, dir bool) experimentalsys.Errno {
	return g.change(func() error {
		st, err := g.Root.Lstat(path)
		switch {
		case err != nil:
			return err
		case dir && !st.IsDir():
			return syscall.ENOTDIR
		case !dir && st.IsDir():
			return syscall.EISDIR
		}
		return g.Root.Remove(path)
	})
}

func (g *guestFiles) Utimens(path string, atim, mtim int64) experimentalsys.Errno {
	return g.change(func() error { return g.Root.Chtimes(path, at(atim), at(mtim)) })
}

// at is the zero time where a time is to stay as it is.
func at(ns int64) time.Time {
	if ns == experimentalsys.UTIME_OMIT {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

// guestFile is an open file or folder.
type guestFile struct {
	experimentalsys.UnimplementedFile
	File                *os.File
	of                  *guestFiles
	path                string
	dir, write, append_ bool
}

func (f *guestFile) Dev() (uint64, experimentalsys.Errno) {
	st, e := f.Stat()
	return st.Dev, e
}

func (f *guestFile) Ino() (sys.Inode, experimentalsys.Errno) {
	st, e := f.Stat()
	return st.Ino, e
}

func (f *guestFile) IsDir() (bool, experimentalsys.Errno) { return f.dir, 0 }
func (f *guestFile) IsAppend() bool                       { return f.append_ }

func (f *guestFile) SetAppend(on bool) experimentalsys.Errno {
	f.append_ = on
	return 0
}

func (f *guestFile) Stat() (sys.Stat_t, experimentalsys.Errno) {
	f.of.call.charge(1000)
	return stat(f.File.Stat())
}

// read charges for a read and says how it ended: the end of a file is no error.
func (f *guestFile) read(p []byte, do func() (int, error)) (int, experimentalsys.Errno) {
	if f.dir {
		return 0, experimentalsys.EISDIR
	}
	if len(p) == 0 {
		return 0, 0
	}
	c := f.of.call
	c.charge(1000 + len(p)/8)
	c.memory.unwatch()
	n, err := do()
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, errno(err)
}

func (f *guestFile) Read(p []byte) (int, experimentalsys.Errno) {
	return f.read(p, func() (int, error) { return f.File.Read(p) })
}

func (f *guestFile) Pread(p []byte, off int64) (int, experimentalsys.Errno) {
	return f.read(p, func() (int, error) { return f.File.ReadAt(p, off) })
}

// offset has a name because go vet takes a Seek that answers another kind of error for a mistake.
type offset = int64

func (f *guestFile) Seek(off offset, whence int) (int64, experimentalsys.Errno) {
	n, err := f.File.Seek(off, whence)
	return n, errno(err)
}

func (f *guestFile) Readdir(n int) ([]experimentalsys.Dirent, experimentalsys.Errno) {
	if !f.dir {
		return nil, experimentalsys.ENOTDIR
	}
	infos, err := f.File.Readdir(n)
	f.of.call.charge(2000 + 1000*len(infos))
	if errors.Is(err, io.EOF) {
		err = nil
	}
	out := make([]experimentalsys.Dirent, 0, len(infos))
	for _, info := range infos {
		out = append(out, experimentalsys.Dirent{Name: info.Name(), Type: info.Mode().Type(), Ino: sys.NewStat_t(info).Ino})
	}
	return out, errno(err)
}

func (f *guestFile) Write(p []byte) (int, experimentalsys.Errno) {
	if !f.write {
		return 0, experimentalsys.EBADF
	}
	whence := io.SeekCurrent
	if f.append_ {
		whence = io.SeekEnd
	}
	off, err := f.File.Seek(0, whence)
	if err == nil {
		err = f.grow(off, len(p))
	}
	if err != nil {
		return 0, errno(err)
	}
	n, err := f.File.Write(p)
	return n, errno(err)
}

// grow counts what is written at off, together with the hole before it, as output.
func (f *guestFile) grow(off int64, n int) error {
	st, err := f.File.Stat()
	if err == nil {
		f.of.call.count(max(n, int(off-st.Size())+n))
	}
	return err
}

func (f *guestFile) Pwrite(p []byte, off int64) (int, experimentalsys.Errno) {
	if !f.write {
		return 0, experimentalsys.EBADF
	}
	if err := f.grow(off, len(p)); err != nil {
		return 0, errno(err)
	}
	n, err := f.File.WriteAt(p, off)
	return n, errno(err)
}

func (f *guestFile) Truncate(size int64) experimentalsys.Errno {
	if !f.write {
		return experimentalsys.EBADF
	}
	if err := f.grow(size, 0); err != nil {
		return errno(err)
	}
	return errno(f.File.Truncate(size))
}

func (f *guestFile) Sync() experimentalsys.Errno {
	if !f.write {
		return 0
	}
	f.of.call.charge(100_000)
	return errno(f.File.Sync())
}

func (f *guestFile) Datasync() experimentalsys.Errno { return f.Sync() }

func (f *guestFile) Utimens(atim, mtim int64) experimentalsys.Errno {
	return f.of.Utimens(f.path, atim, mtim)
}

func (f *guestFile) Close() experimentalsys.Errno {
	err := f.File.Close()
	if !errors.Is(err, fs.ErrClosed) {
		f.of.call.opened--
	}
	return errno(err)
}
