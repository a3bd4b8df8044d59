export default "from lazy";
