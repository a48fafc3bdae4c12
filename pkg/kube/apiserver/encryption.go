package apiserver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/server/options/encryptionconfig"
	"k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/value"
)

// secrets are the only resource that is encrypted.
var secrets = schema.GroupResource{Resource: "secrets"}

// Encryption turns Secrets into what is stored and back, as a file in upstream's
// format says. Other resources are not slowed down. Upstream's own would look
// at the file every minute, and drops the health checks that are calls.
type Encryption struct {
	path    string
	current atomic.Pointer[value.Transformer]

	// changing is held by readers while a Secret is written: a change waits
	// for those that began before it.
	mu      sync.Mutex
	writing *sync.WaitGroup
}

// NewEncryption reads the file.
func NewEncryption(path string) (*Encryption, error) {
	e := &Encryption{path: path, writing: new(sync.WaitGroup)}
	return e, e.load()
}

func (e *Encryption) load() error {
	config, err := encryptionconfig.LoadEncryptionConfig(context.Background(), e.path, true, "")
	if err != nil {
		return fmt.Errorf("the encryption configuration %s: %w", e.path, err)
	}
	t, ok := config.Transformers[secrets]
	if !ok {
		return fmt.Errorf("the encryption configuration %s says nothing of secrets", e.path)
	}
	e.current.Store(&t)
	return nil
}

// Reload reads the file again. When it returns nil, whatever is written is
// encrypted as the file says, and no write that began before is under way.
func (e *Encryption) Reload(ctx context.Context) error {
	if err := e.load(); err != nil {
		return err
	}
	e.mu.Lock()
	before := e.writing
	e.writing = new(sync.WaitGroup)
	e.mu.Unlock()
	done := make(chan struct{})
	go func() {
		before.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for requests that write Secrets: %w", context.Cause(ctx))
	}
}

// write notes a write until the function that it returns is called.
func (e *Encryption) write() (done func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	writing := e.writing
	writing.Add(1)
	return writing.Done
}

// TransformerForResource implements value.ResourceTransformers.
func (e *Encryption) TransformerForResource(resource schema.GroupResource) value.Transformer {
	if resource != secrets {
		return nil // as it is
	}
	return transformer{e}
}

// transformer looks at each value up which one is current.
type transformer struct{ e *Encryption }

// TransformFromStorage implements value.Transformer.
func (t transformer) TransformFromStorage(ctx context.Context, data []byte, dataCtx value.Context) ([]byte, bool, error) {
	out, stale, err := (*t.e.current.Load()).TransformFromStorage(ctx, data, dataCtx)
	if err != nil {
		err = errors.Join(err, errors.New("it was encrypted with a key that is not there, or altered in the datastore"))
	}
	return out, stale, err
}

// TransformToStorage implements value.Transformer.
func (t transformer) TransformToStorage(ctx context.Context, data []byte, dataCtx value.Context) ([]byte, error) {
	return (*t.e.current.Load()).TransformToStorage(ctx, data, dataCtx)
}

// noting notes writes of Secrets.
type noting struct {
	storage.Interface
	e *Encryption
}

// Create implements storage.Interface.
func (n noting) Create(ctx context.Context, key string, obj, out runtime.Object, ttl uint64) error {
	defer n.e.write()()
	return n.Interface.Create(ctx, key, obj, out, ttl)
}

// GuaranteedUpdate implements storage.Interface.
func (n noting) GuaranteedUpdate(ctx context.Context, key string, destination runtime.Object, ignoreNotFound bool,
	preconditions *storage.Preconditions, tryUpdate storage.UpdateFunc, cached runtime.Object,
) error {
	defer n.e.write()()
	return n.Interface.GuaranteedUpdate(ctx, key, destination, ignoreNotFound, preconditions, tryUpdate, cached)
}
