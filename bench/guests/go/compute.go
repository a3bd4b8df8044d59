//go:build wasip1

// The functions of ../c/compute.c, in Go. Its runtime needs WASI to start.
package main

import (
	"crypto/sha256"
	"encoding/binary"
)

func main() {}

//go:wasmexport fib
func fib(n int32) int32 {
	if n < 2 {
		return n
	}
	return fib(n-1) + fib(n-2)
}

//go:wasmexport sha
func sha(n int32) int32 {
	data := make([]byte, min(n, 1<<20))
	for i := range data {
		data[i] = byte(i*7 + 1)
	}
	sum := sha256.Sum256(data)
	return int32(binary.BigEndian.Uint32(sum[:]))
}

//go:wasmexport matmul
func matmul(size int32) float64 {
	n := int(min(size, 256))
	a, b, c := make([]float64, n*n), make([]float64, n*n), make([]float64, n*n)
	for i := range a {
		a[i], b[i] = float64(i%7), float64(i%5)
	}
	for i := range n {
		for j := range n {
			sum := 0.0
			for l := range n {
				sum += a[i*n+l] * b[l*n+j]
			}
			c[i*n+j] = sum
		}
	}
	trace := 0.0
	for i := range n {
		trace += c[i*n+i]
	}
	return trace
}
