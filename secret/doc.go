// Package secret keeps values that functions can read and nobody else: a state machine that stores them encrypted, a view to read them
// from, and the keys that encrypt them.
//
// Values are encrypted before they are proposed, so that neither the log nor the state ever holds them in the clear; the keys lie in a
// file of their own. The package does not decide who may read what.
package secret
