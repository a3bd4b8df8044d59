package store

import (
	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS is the file system everything durable goes through, so that a test can take away what was not
// synced, fill the disk or damage a file.
type FS = vfs.FS

// File is an open file of an FS.
type File = vfs.File

// OS is the operating system's file system.
var OS FS = vfs.Default
