// What the browser keeps for our scripts, as JSON. storage: localStorage, or sessionStorage, which ends with the tab.
export function stored(storage, key) {
  try {
    return JSON.parse(storage.getItem(key)) ?? {};
  } catch {
    return {};
  }
}

export function store(storage, key, value) {
  try {
    storage.setItem(key, JSON.stringify(value));
  } catch {
    storage.removeItem(key); // The browser has no room.
  }
}
